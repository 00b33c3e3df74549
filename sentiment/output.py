"""An output folder on any filesystem: whole files written at once, deleted, listed.

Takes relative paths and bytes; gives files that readers see entirely or not at all. Knows nothing
of what is in them.

A file is written in one piece, on local disks under a temporary name that is then renamed: a stream
that fails halfway still closes, and would publish a torn file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from pyarrow import fs

from sentiment.errors import OutputError, SentimentError
from sentiment.source.storage import descendant_uri, open_filesystem


@dataclass(frozen=True)
class Output:
    """An output folder on any filesystem.

    Attributes:
        location: Absolute path or URI; opens the same folder in a process with another working
            directory.
        filesystem: Where it is.
        root: Its path there, without a trailing slash.
    """

    location: str
    filesystem: fs.FileSystem
    root: str

    @classmethod
    def open(cls, location: str) -> Self:
        """The output at a local path or URI; creates nothing.

        Raises:
            OutputError: The location is a file or no known filesystem.
        """
        try:
            filesystem, root = open_filesystem(location)
            kind = filesystem.get_file_info(root).type
        except (OSError, ValueError, SentimentError) as error:
            raise OutputError(f"--output {location}: cannot be opened ({error})") from error
        if kind == fs.FileType.File:
            raise OutputError(f"--output {location}: is a file, expected a folder")
        return cls(descendant_uri(location, ""), filesystem, root.rstrip("/"))

    def path(self, relative: str) -> str:
        """Path of a file below the output."""
        return f"{self.root}/{relative}"

    def write(self, relative: str, data: bytes | memoryview) -> None:
        """Write a whole file so that readers see all of it or none.

        Raises:
            OutputError: The file cannot be written.
        """
        target = self.path(relative)
        with _told(target, "cannot be written"):
            if isinstance(self.filesystem, fs.LocalFileSystem):
                self._write_local(target, data)
            else:
                with self.filesystem.open_output_stream(target) as stream:
                    stream.write(data)

    def _write_local(self, target: str, data: bytes | memoryview) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # The leading dot hides it from every reader; the random part keeps two writers apart.
        temporary = os.path.join(
            os.path.dirname(target), f".{os.path.basename(target)[-64:]}.{uuid4().hex[:8]}"
        )
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise

    def delete(self, relative: str) -> None:
        """Delete a file; one that is not there is as good as deleted.

        Raises:
            OutputError: The file cannot be deleted.
        """
        target = self.path(relative)
        with _told(target, "cannot be deleted"):
            if self.filesystem.get_file_info(target).type == fs.FileType.File:
                self.filesystem.delete_file(target)

    def exists(self, relative: str) -> bool:
        """Whether there is a file of that name."""
        return bool(self.filesystem.get_file_info(self.path(relative)).type == fs.FileType.File)

    def list_files(self, folder: str) -> list[str]:
        """Names of the files directly inside a folder; none when there is no folder.

        Raises:
            OutputError: The folder cannot be listed.
        """
        target = self.path(folder) if folder else self.root or "/"
        with _told(target, "cannot be listed"):
            infos = self.filesystem.get_file_info(fs.FileSelector(target, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.File)


@contextmanager
def _told(path: str, what: str) -> Iterator[None]:
    """Storage errors as ours, naming the path."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: {what} ({error.strerror or error})") from error
