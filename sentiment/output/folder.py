"""An output folder on any filesystem: files are written whole, deleted and listed.

Readers see a file entirely or not at all. On local disks it is written under a temporary name and
then renamed. On object stores it is one request, or an upload in parts that the last request
publishes. A pyarrow stream that is left halfway publishes what it holds, so an upload is never
interrupted.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from pyarrow import fs

from sentiment.errors import OutputError, SentimentError
from sentiment.storage import (
    STORAGE_ERRORS,
    descendant_uri,
    for_small_objects,
    one_line,
    open_filesystem,
)

# pyarrow uploads in parts from 10 MiB on; below, one request is cheaper and leaves nothing behind.
_ONE_REQUEST_BYTES = 8 * 2**20

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check its permissions"),
    **dict.fromkeys((errno.EISDIR, errno.ENOTDIR, errno.EEXIST), "move what is in its place"),
}
_OTHER_REMEDY = "check the storage, its endpoint and credentials"


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
            OutputError: The location is a file, in no bucket, or no known filesystem.
        """
        try:
            filesystem, root = open_filesystem(location)
            kind = filesystem.get_file_info(root).type
        except SentimentError as error:
            raise OutputError(f"--output cannot be opened: {error}") from error
        except (*STORAGE_ERRORS, ValueError) as error:
            raise OutputError(
                f"--output {location}: cannot be opened ({one_line(error)}); {_remedy(error)}"
            ) from error
        if kind == fs.FileType.NotFound and isinstance(filesystem, fs.S3FileSystem):
            _check_bucket(filesystem, root.split("/")[0], location)
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
                _upload(self.filesystem, target, data)

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
        _make_lasting(os.path.dirname(target))

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
        """Whether there is a file of that name.

        Raises:
            OutputError: The storage does not answer.
        """
        target = self.path(relative)
        with _told(target, "cannot be looked up"):
            return bool(self.filesystem.get_file_info(target).type == fs.FileType.File)

    def list_files(self, folder: str) -> list[str]:
        """Names of the files directly inside a folder; none when there is no folder.

        Raises:
            OutputError: The folder cannot be listed.
        """
        target = self.path(folder) if folder else self.root or "/"
        with _told(target, "cannot be listed"):
            infos = self.filesystem.get_file_info(fs.FileSelector(target, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.File)

    def list_tree(self, folder: str) -> list[str]:
        """Paths, relative to the output, of all files below a folder; none when there is none.

        Raises:
            OutputError: The folder cannot be listed.
        """
        target = self.path(folder) if folder else self.root or "/"
        selector = fs.FileSelector(target, allow_not_found=True, recursive=True)
        with _told(target, "cannot be listed"):
            infos = self.filesystem.get_file_info(selector)
        start = len(self.root.rstrip("/")) + 1
        return sorted(info.path[start:] for info in infos if info.type == fs.FileType.File)


def _make_lasting(folder: str) -> None:
    """Bring a rename to the disk, so that a power cut does not undo it.

    Some network filesystems refuse that, and the file is whole without it.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _upload(filesystem: fs.FileSystem, target: str, data: bytes | memoryview) -> None:
    """Write a whole object, in a thread of its own.

    Signals are raised in the main thread. An interrupt there between opening and closing would let
    go of the stream and so publish a torn or empty object; here the upload runs to its end.
    """
    if isinstance(filesystem, fs.S3FileSystem) and len(data) < _ONE_REQUEST_BYTES:
        filesystem = for_small_objects(filesystem)

    def put() -> None:
        with filesystem.open_output_stream(target, compression=None) as stream:
            stream.write(data)

    with ThreadPoolExecutor(1, "upload") as thread:
        thread.submit(put).result()


def _check_bucket(filesystem: fs.FileSystem, bucket: str, location: str) -> None:
    with suppress(OSError):  # rights on a part of the bucket need not cover this question
        if filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OutputError(f"--output {location}: there is no bucket {bucket!r}; create it")


@contextmanager
def _told(path: str, what: str) -> Iterator[None]:
    """Storage errors as ours, naming the path."""
    try:
        yield
    except STORAGE_ERRORS as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise OutputError(f"{path}: {what} ({reason}); {_remedy(error)}") from error


def _remedy(error: BaseException) -> str:
    remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, _OTHER_REMEDY)
    return f"{remedy} and run the same command again, what is committed is kept"
