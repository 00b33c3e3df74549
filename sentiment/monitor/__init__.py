"""Reports on a running job: the time of its phases and stages, progress on a terminal or in the
log, Prometheus metrics. Must not know what the stages do.
"""
