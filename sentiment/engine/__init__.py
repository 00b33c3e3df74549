"""From token ids to label probabilities: batches, windows, generation, and a block of rows in
and out. Must not know the output or the cluster.
"""
