"""The page about a run and its charts, made only from the `run.json` and `metrics.pq` files of
an output. Must not know Ray or torch.
"""
