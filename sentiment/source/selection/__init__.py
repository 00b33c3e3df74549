"""Which rows of the sources are scored: conditions on columns and partitions, and samples."""
