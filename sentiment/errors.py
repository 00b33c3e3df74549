"""The error tree: every failure a user can cause or repair has a class and an exit code.

Takes nothing, gives exception classes; knows nothing of files, models or clusters.

    SentimentError                 exit 1   root: catch this one in library code
    ├── ConfigError                exit 2   an option is missing, malformed or contradicts another
    ├── SourceError                exit 2   no shards, no text column, an unreadable listing
    ├── ModelError                 exit 2   the model cannot be loaded or cannot score these labels
    ├── OutputError                exit 2   the output cannot be written, or holds other work
    ├── DeviceError                exit 1   a GPU failed while it scored, or cannot be used
    ├── LedgerError                exit 3   rows in and rows out do not balance
    ├── VerificationError          exit 3   the output is not what its files say
    ├── RejectedRowsError          exit 4   all is written, but too many rows were rejected
    └── DriftError                 exit 5   all is written, but tonight is unlike earlier nights

Messages name the file, the row and the remedy. They never contain review text.
"""

from __future__ import annotations


class SentimentError(Exception):
    """Root of everything `sentiment` raises on purpose."""

    exit_code = 1


class ConfigError(SentimentError):
    """An option is missing, malformed, or contradicts another."""

    exit_code = 2


class SourceError(SentimentError):
    """The sources cannot be planned: nothing found, no text column, clashing column names."""

    exit_code = 2


class ModelError(SentimentError):
    """The model cannot be loaded, or its vocabulary cannot spell the labels."""

    exit_code = 2


class OutputError(SentimentError):
    """The output cannot be used: not writable, or made by another model or configuration."""

    exit_code = 2


class DeviceError(SentimentError):
    """A GPU failed while it scored, or torch cannot use it; no row is to blame, all would fail."""


class LedgerError(SentimentError):
    """Rows read do not equal rows labelled, rejected and reused."""

    exit_code = 3


class VerificationError(SentimentError):
    """An output is not what its files say: rows missing or doubled, files torn or tampered with."""

    exit_code = 3


class RejectedRowsError(SentimentError):
    """More rows were rejected than `--max-rejected` allows; all good rows are written."""

    exit_code = 4


class DriftError(SentimentError):
    """Labels, scores or rejects are unlike those of earlier runs; all rows are written."""

    exit_code = 5
