"""The record of a run: the ledger of its rows, `run.json` and the one reader of it, and the
comparison with earlier runs. Must not know how rows are scored.
"""
