"""Counts that can be added up, and the figures made from them: accuracy, confusion, calibration
and drift. Must not know files of an output, models or the cluster.
"""
