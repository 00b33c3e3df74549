"""Writes, deletes and lists the files of an output, on any filesystem.

Readers see a file with all of its content or not at all. On local disks a file is written under a
temporary name and then renamed. On object stores it is one request, or an upload in parts that
becomes visible with the last request. pyarrow closes an upload that is interrupted, and so would
publish the part that was sent: therefore uploads cannot be interrupted (see `_upload`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
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

# pyarrow uploads in parts from 10 MiB on. A smaller file is one request, which is cheaper and
# leaves no parts behind if it fails.
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
        location: The folder as an absolute path or URI. `open` opens the same folder from it in any
            process, whatever its working directory.
        filesystem: The filesystem of the folder.
        root: Path of the folder on that filesystem, without a trailing slash.
        fence: Entered for every write and delete. It raises if this process may not change the
            output any more (see `fence.py`).
    """

    location: str
    filesystem: fs.FileSystem
    root: str
    fence: Callable[[Output], AbstractContextManager[None]] | None = None

    @classmethod
    def open(cls, location: str) -> Self:
        """Open the output at a local path or URI; the folder need not exist and is not created.

        Raises:
            OutputError: The location is a file, or its bucket or filesystem does not exist.
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

    def fenced(self, fence: Callable[[Output], AbstractContextManager[None]]) -> Self:
        """Return the same output, with a check before every write and delete."""
        return replace(self, fence=fence)

    def path(self, relative: str) -> str:
        """Return the path of a file below the output on its filesystem."""
        return f"{self.root}/{relative}"

    def write(self, relative: str, data: bytes | memoryview) -> None:
        """Write a whole file; readers see all of it or nothing.

        Raises:
            OutputError: The file cannot be written.
            LeaseLostError: Another run has taken the output over; nothing is written.
        """
        target = self.path(relative)
        with _storage_errors_as_ours(target, "cannot be written"):
            if isinstance(self.filesystem, fs.LocalFileSystem):
                self._write_local(target, data)
            else:
                with self.behind_fence():
                    _upload(self.filesystem, target, data)

    def behind_fence(self) -> AbstractContextManager[None]:
        """Return a context in which no other run can take the output over.

        Raises:
            LeaseLostError: Another run has taken it over already; raised when it is entered.
        """
        return nullcontext() if self.fence is None else self.fence(self)

    def check_fence(self) -> None:
        """Check that this process may still change the output.

        Raises:
            LeaseLostError: Another run has taken it over.
        """
        with self.behind_fence():
            pass

    def _write_local(self, target: str, data: bytes | memoryview) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # The leading dot hides the file from readers, and each writer has a random name of its own.
        temporary = os.path.join(
            os.path.dirname(target), f".{os.path.basename(target)[-64:]}.{uuid4().hex[:8]}"
        )
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with self.behind_fence():
                os.replace(temporary, target)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
        _sync_folder(os.path.dirname(target))

    def delete(self, relative: str) -> None:
        """Delete a file, if it exists.

        Raises:
            OutputError: The file cannot be deleted.
            LeaseLostError: Another run has taken the output over; nothing is deleted.
        """
        self._remove(relative, fs.FileType.File, self.filesystem.delete_file)

    def delete_folder(self, folder: str) -> None:
        """Delete a folder with all that is in it, if it exists.

        Raises:
            OutputError: It cannot be deleted.
            LeaseLostError: Another run has taken the output over; nothing is deleted.
        """
        self._remove(folder, fs.FileType.Directory, self.filesystem.delete_dir)

    def _remove(self, relative: str, kind: fs.FileType, delete: Callable[[str], None]) -> None:
        target = self.path(relative)
        with _storage_errors_as_ours(target, "cannot be deleted"), self.behind_fence():
            if self.filesystem.get_file_info(target).type == kind:
                delete(target)

    def read(self, relative: str) -> bytes | None:
        """Read a whole file; None if there is none.

        Raises:
            OutputError: The storage does not answer.
        """
        target = self.path(relative)
        with _storage_errors_as_ours(target, "cannot be read"):
            try:
                with self.filesystem.open_input_stream(target, compression=None) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def exists(self, relative: str) -> bool:
        """Whether there is a file of that name.

        Raises:
            OutputError: The storage does not answer.
        """
        target = self.path(relative)
        with _storage_errors_as_ours(target, "cannot be looked up"):
            return bool(self.filesystem.get_file_info(target).type == fs.FileType.File)

    def list_files(self, folder: str) -> list[str]:
        """List the names of the files directly inside a folder; none if there is no folder.

        Raises:
            OutputError: The folder cannot be listed.
        """
        target = self.path(folder) if folder else self.root or "/"
        with _storage_errors_as_ours(target, "cannot be listed"):
            infos = self.filesystem.get_file_info(fs.FileSelector(target, allow_not_found=True))
        return sorted(info.base_name for info in infos if info.type == fs.FileType.File)

    def list_tree(self, folder: str) -> list[str]:
        """List all files below a folder, relative to the output; none if there is no folder.

        Raises:
            OutputError: The folder cannot be listed.
        """
        target = self.path(folder) if folder else self.root or "/"
        selector = fs.FileSelector(target, allow_not_found=True, recursive=True)
        with _storage_errors_as_ours(target, "cannot be listed"):
            infos = self.filesystem.get_file_info(selector)
        start = len(self.root.rstrip("/")) + 1
        return sorted(info.path[start:] for info in infos if info.type == fs.FileType.File)


def _sync_folder(folder: str) -> None:
    """Write the entries of a folder to the disk, so that a power cut does not undo a rename.

    Some network filesystems refuse that. The file itself is complete without it.
    """
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _upload(filesystem: fs.FileSystem, target: str, data: bytes | memoryview) -> None:
    """Write a whole object, in a thread of its own.

    Python raises KeyboardInterrupt in the main thread only. There it would close the stream before
    all is written, and so publish a torn or empty object. In another thread the upload always ends.
    """
    if isinstance(filesystem, fs.S3FileSystem) and len(data) < _ONE_REQUEST_BYTES:
        filesystem = for_small_objects(filesystem)

    def put() -> None:
        with filesystem.open_output_stream(target, compression=None) as stream:
            stream.write(data)

    with ThreadPoolExecutor(1, "upload") as thread:
        thread.submit(put).result()


def _check_bucket(filesystem: fs.FileSystem, bucket: str, location: str) -> None:
    with suppress(OSError):  # a user with rights to a part of the bucket may not ask that
        if filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
            raise OutputError(f"--output {location}: there is no bucket {bucket!r}; create it")


@contextmanager
def _storage_errors_as_ours(path: str, what: str) -> Iterator[None]:
    """Raise OutputError for errors of the storage, with the path and a remedy."""
    try:
        yield
    except STORAGE_ERRORS as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise OutputError(f"{path}: {what} ({reason}); {_remedy(error)}") from error


def _remedy(error: BaseException) -> str:
    remedy = _REMEDIES.get(getattr(error, "errno", None) or 0, _OTHER_REMEDY)
    return f"{remedy} and run the same command again, what is committed is kept"
