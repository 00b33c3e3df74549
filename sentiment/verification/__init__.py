"""Checking an output from its files alone: rows, footers, shards and folders. Must not know
models or the cluster.
"""
