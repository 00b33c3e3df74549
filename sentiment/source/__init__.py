"""Shards of reviews: found, indexed and read as blocks. Knows files, never what a text means."""
