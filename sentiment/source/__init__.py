"""Finding shards and reading them: listings, fingerprints, formats, row ranges and damaged
files. Must not know what the text means, nor any model.
"""
