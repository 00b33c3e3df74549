"""Finds stretches of delimited text that need no careful reading.

In a clean stretch a record ends at each line end outside of quotes, and every quote stands where a
writer puts it. There Python's csv module and any faster parser see the same records. What is clean
is decided for all bytes of a piece at once. Whatever might be otherwise is left to
`delimited_records`.

Source: RFC 4180, https://www.rfc-editor.org/rfc/rfc4180
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from sentiment.source.formats.delimited_records import DelimitedRecord, records
from sentiment.source.formats.lines import BOM, MAX_RECORD_BYTES, Lines
from sentiment.source.layout import Dialect

Places = npt.NDArray[np.int64]
Taken = TypeVar("Taken")

# Bytes that are looked at together: many, as each call of a parser has its price, and few against
# the size of a unit, as those behind its end are looked at in vain.
PIECE_BYTES: Final = 2 * 1024 * 1024
# Bytes whose marks are found together. What is made of them on the way fits in the cache of a core.
_BLOCK_BYTES: Final = 256 * 1024
# The part of what was looked at that has to be clean for another look to pay at once.
_LEAST_SHARE: Final = 1 / 16
# Records that are read with care, at most, before another look.
_LONGEST_WAIT: Final = 4096
_LF, _CR = b"\n\r"


@dataclass(frozen=True)
class Shape:
    """What a clean record looks like.

    Attributes:
        delimiter: Between fields; one byte.
        quote: Around fields; one byte, or none.
        width: Fields of a record.
        headers: How a record may begin that repeats the header.
    """

    delimiter: bytes
    quote: bytes
    width: int
    headers: tuple[bytes, ...]


@dataclass(frozen=True)
class Stretch:
    """Records that are clean.

    Attributes:
        offset_bytes: Where the first one starts in the unpacked file.
        content: Their bytes, and maybe more behind them.
        ends: One past the last byte of each in the content, line ends included. Not empty.
    """

    offset_bytes: int
    content: bytes
    ends: Places

    @property
    def rows(self) -> int:
        """Number of records."""
        return len(self.ends)

    @property
    def size_bytes(self) -> int:
        """Bytes of the content that are theirs."""
        return int(self.ends[-1])

    @property
    def starts(self) -> Places:
        """Where each starts in the unpacked file."""
        return self.offset_bytes + _starts(self.ends)

    @property
    def has_lines_within(self) -> bool:
        """Whether a record has several lines."""
        text = np.frombuffer(self.content, np.uint8, self.size_bytes)
        return bool(np.count_nonzero(text == _LF) > self.rows)

    @property
    def spanning(self) -> int:
        """Number of records of several lines."""
        if not self.has_lines_within:
            return 0
        line_ends = np.flatnonzero(np.frombuffer(self.content, np.uint8, self.size_bytes) == _LF)
        lines = np.diff(np.searchsorted(line_ends, self.ends), prepend=0)
        return int(np.count_nonzero(lines > 1))


def shape_of(dialect: Dialect, names: Sequence[str]) -> Shape | None:
    """Return what clean records of a file look like.

    Args:
        dialect: How the file is written.
        names: Names of its columns, without the blank ones.

    Returns:
        Their shape; None if all of the file has to be read with care.
    """
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    is_plain = len(delimiter) == 1 and len(quote) <= 1 and not dialect.escape
    special = {delimiter, quote, b"\n", b"\r", b"\0"}
    if not is_plain or dialect.blank_columns or len(special) < 5:
        return None
    headers: tuple[bytes, ...] = ()
    # With one column a header is told by its mark, and marks are nowhere clean.
    if dialect.has_header and len(names) > 1:
        name = names[0].encode()
        headers = (name + delimiter,)
        if quote:
            headers += (quote + name.replace(quote, quote * 2) + quote + delimiter,)
    return Shape(delimiter, quote, len(names), headers)


def clean_ends(content: bytes, shape: Shape) -> Places:
    """Find the clean records that a text begins with.

    Args:
        content: Bytes that start where a record does. They may end anywhere.
        shape: What clean records look like.

    Returns:
        One past the last byte of each, line ends included. Empty if the first record is not clean
        or does not end here.
    """
    limit = _end_of_plain_text(content)
    if not limit:
        return np.empty(0, np.int64)
    text = np.frombuffer(content, np.uint8, limit)
    places = _places_of(text, b"\n" + shape.delimiter + shape.quote)
    kinds = text[places]
    quotes = np.empty(0, np.int64)
    if shape.quote:
        is_quote = kinds == ord(shape.quote)
        quotes = places[is_quote]
        if len(quotes):
            is_outside = np.cumsum(is_quote) % 2 == 0
            is_outside &= ~is_quote
            places, kinds = places[is_outside], kinds[is_outside]
            limit = min(limit, _first_stray_quote(text, quotes, shape))
    if content.find(b"\r", 0, limit) >= 0:
        limit = min(limit, _first_stray_return(text, quotes))
    # Of all that stands outside of quotes, every last one of a record has to be a line end.
    count = len(places) // shape.width
    is_end = (kinds[: count * shape.width] == _LF).reshape(count, shape.width)
    is_record = is_end[:, -1] & ~is_end[:, :-1].any(axis=1)
    ends = places[shape.width - 1 :: shape.width][: _first(~is_record)] + 1
    ends = ends[: np.searchsorted(ends, limit, side="right")]
    return ends[: _first_odd_record(text, ends, shape)]


def _end_of_plain_text(content: bytes) -> int:
    """Return where the first byte stands that is nowhere clean; the length if there is none."""
    limit = len(content)
    found = [content.find(b"\0")]
    if not content.isascii():
        found.append(content.find(BOM))
        try:
            content.decode()
        except UnicodeDecodeError as error:
            found.append(error.start)
    return min([limit, *(place for place in found if place >= 0)])


def _places_of(text: npt.NDArray[np.uint8], marks: bytes) -> Places:
    """Return where any of some bytes stand, in order."""
    found = []
    for start in range(0, len(text), _BLOCK_BYTES):
        block = text[start : start + _BLOCK_BYTES]
        is_mark = block == marks[0]
        for mark in marks[1:]:
            is_mark |= block == mark
        found.append(np.flatnonzero(is_mark) + start)
    return np.concatenate(found)


def _first_stray_quote(text: npt.NDArray[np.uint8], quotes: Places, shape: Shape) -> int:
    """Return the first quote that neither opens nor closes a field nor is doubled, or a length.

    A doubled quote within a field closes it and opens it again at once.
    """
    around = np.zeros(256, np.bool_)
    around[[ord(shape.delimiter), ord(shape.quote), _LF]] = True
    opening, closing = quotes[::2], quotes[1::2]
    is_stray = ~around[text[np.maximum(opening - 1, 0)]]
    is_stray[0] &= opening[0] > 0  # the stretch starts where a record does
    stray = opening[is_stray][:1]
    around[_CR] = True
    # What follows a quote at the very end is unknown, but then its record does not end here.
    is_stray = ~around[text[np.minimum(closing + 1, len(text) - 1)]]
    return int(min([*stray, *closing[is_stray][:1], len(text)]))


def _first_stray_return(text: npt.NDArray[np.uint8], quotes: Places) -> int:
    """Return the first carriage return outside of quotes that ends no line, or the length."""
    places = np.flatnonzero(text == _CR)
    is_stray = text[np.minimum(places + 1, len(text) - 1)] != _LF
    is_stray &= np.searchsorted(quotes, places) % 2 == 0
    return int(min([*places[is_stray][:1], len(text)]))


def _first_odd_record(text: npt.NDArray[np.uint8], ends: Places, shape: Shape) -> int:
    """Return the number of the first record that is blank, too long, or maybe a header."""
    starts = _starts(ends)
    sizes = ends - starts
    is_odd = sizes > MAX_RECORD_BYTES
    if shape.width == 1:
        is_odd |= (sizes <= 2) & ((sizes == 1) | (text[starts] == _CR))
    for header in shape.headers:
        rows = np.flatnonzero(sizes >= len(header))
        for place, letter in enumerate(header):
            rows = rows[text[starts[rows] + place] == letter]
        is_odd[rows] = True
    return _first(is_odd)


def _starts(ends: Places) -> Places:
    return np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: len(ends)]


def _first(found: npt.NDArray[np.bool_]) -> int:
    """Return the place of the first True; the length if there is none."""
    return int(found.argmax()) if found.any() else len(found)


def records_and_stretches(
    lines: Lines,
    dialect: Dialect,
    names: Sequence[str],
    shape: Shape | None,
    take: Callable[[Stretch], Taken | None],
) -> Iterator[DelimitedRecord | Taken]:
    """Yield the records that are rows, many at a time where they are clean.

    Args:
        lines: The lines of the file, from a record on.
        dialect: How it is written.
        names: Names of the columns, without the blank ones.
        shape: What clean records look like; None to read all with care.
        take: Makes of a clean stretch what is yielded in its place. None if it cannot: then its
            first records are read with care.

    Raises:
        DamageError: A quote is never closed, or the bytes end early.
    """
    careful = records(lines, dialect, names)
    wait = 1
    while True:
        is_clean = shape is not None
        while is_clean and shape is not None:
            content = lines.look_ahead(PIECE_BYTES)
            stretch = Stretch(lines.offset_bytes, content, clean_ends(content, shape))
            taken = take(stretch) if stretch.rows else None
            is_clean = taken is not None and stretch.size_bytes >= len(content) * _LEAST_SHARE
            wait = 1 if is_clean else min(2 * wait, _LONGEST_WAIT)
            if taken is not None:
                lines.skip(stretch.size_bytes)
                yield taken
        for read, record in enumerate(careful, 1):
            yield record
            # Records may be held back behind a broken one: then the lines are further on.
            if shape is not None and read >= wait and record.end_bytes == lines.offset_bytes:
                break
        else:
            return
