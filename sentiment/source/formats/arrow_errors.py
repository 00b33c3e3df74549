"""Turns whatever a damaged file makes libraries raise into errors of Arrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from sentiment.storage import STORAGE_ERRORS


@contextmanager
def as_arrow_errors(what: str) -> Iterator[None]:
    """Turn every error but those of storage and memory into one of Arrow.

    A file can name types that other libraries have registered with Arrow. Their code runs while
    Arrow reads a schema, and may raise any exception. pyarrow itself raises UnicodeDecodeError for
    column names, and so do decoders such as fastavro for values.

    Args:
        what: What cannot be decoded then, for the message.

    Raises:
        pa.ArrowInvalid: The body raised an exception that is not one of storage or memory.
    """
    try:
        yield
    except (*STORAGE_ERRORS, MemoryError):
        raise
    except Exception as error:
        raise pa.ArrowInvalid(f"{what} cannot be decoded ({type(error).__name__})") from error
