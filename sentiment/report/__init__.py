"""The page about a run and its charts, made from `run.json` and `metrics.parquet` alone. Must
not know Ray or torch.
"""
