"""Reads the records of each format, text and binary, from bytes that may be compressed."""
