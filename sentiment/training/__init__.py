"""Fine-tuning a T5, or training a small one from nothing, on Ray Train. Must not know scoring
runs.
"""
