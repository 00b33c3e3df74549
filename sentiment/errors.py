"""The exception classes: one, with an exit code, for each kind of failure that a user can repair.

    SentimentError                 exit 1   root: catch this one in library code
    ├── ConfigError                exit 2   an option is missing, malformed or contradicts another
    ├── SourceError                exit 2   no shards, no text column, shards cannot be listed
    │   └── SourceChangedError     exit 2   a file is gone or changed since it was listed
    ├── ModelError                 exit 2   the model cannot be loaded or cannot score these labels
    ├── OutputError                exit 2   the output cannot be written, or holds other results
    ├── DeviceError                exit 1   a GPU failed while it scored, or cannot be used
    ├── LedgerError                exit 3   rows of the sources are missing from the output
    ├── LeaseLostError             exit 3   another run took the output over while this one hung
    ├── VerificationError          exit 3   the files of an output contradict each other
    ├── RejectedRowsError          exit 4   all is written, but too many rows were rejected
    └── DriftError                 exit 5   all is written, but labels differ from earlier runs

Messages name the file, the row and the remedy. They never contain review text.
"""

from __future__ import annotations


class SentimentError(Exception):
    """Root of all exceptions that `sentiment` raises itself."""

    exit_code = 1


class ConfigError(SentimentError):
    """An option is missing, malformed, or contradicts another."""

    exit_code = 2


class SourceError(SentimentError):
    """The sources cannot be used: no shards, no text column, column names that clash."""

    exit_code = 2


class SourceChangedError(SourceError):
    """A source file is gone, changed, or not to be seen from here: nothing can be said of its rows.

    It may pass, so no row is rejected for it.
    """


class UnusableShardError(SourceError):
    """The columns of one shard cannot be used. It costs this file, unless all are like it."""


class ModelError(SentimentError):
    """The model cannot be loaded, or its vocabulary cannot express the labels."""

    exit_code = 2


class OutputError(SentimentError):
    """The output cannot be used: not writable, or made by another model or configuration."""

    exit_code = 2


class DeviceError(SentimentError):
    """A GPU failed while it scored, or torch cannot use it. No row is the cause: all would fail."""


class LedgerError(SentimentError):
    """Rows read do not equal rows labelled, rejected, reused and excluded."""

    exit_code = 3


class LeaseLostError(SentimentError):
    """Another run took the output over, because this one gave no sign of life for a while."""

    exit_code = 3


class VerificationError(SentimentError):
    """An output fails its checks: missing or doubled rows, damaged or changed files."""

    exit_code = 3


class RejectedRowsError(SentimentError):
    """More rows were rejected than `--max-rejected` allows; all good rows are written."""

    exit_code = 4


class DriftError(SentimentError):
    """Labels, scores or rejects differ from those of earlier runs; all rows are written."""

    exit_code = 5
