"""Strings that hold bytes which are not UTF-8, as the lone surrogates of `surrogateescape`.

Source: PEP 383, https://peps.python.org/pep-0383/
"""

from __future__ import annotations


def is_utf8(value: str) -> bool:
    """Return whether every byte that the string came from was UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: str) -> str:
    r"""Return the string with the bytes that are not UTF-8 written as `\xNN`."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
