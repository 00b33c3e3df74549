"""A run while it goes on: where its time goes, progress on a terminal, metrics for Prometheus.
Must not know what the stages do.
"""
