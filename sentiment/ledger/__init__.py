"""The account of a run: the summary, `run.json` and how it is read again, and the comparison
with earlier runs. Must not know how a run is made.
"""
