"""An output in memory whose writer can be stopped at any storage operation.

Takes a number of operations and a moment, gives an `Output` that raises `PowerCut` there and leaves
behind what a dead process leaves behind, or an error of the store, or that hands over to another
writer. Knows nothing of what is written.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from pyarrow import fs

from sentiment.output.folder import Output

# Before the operation took effect, after it did, or after a part of a file was written.
Moment = Literal["before", "torn", "after"]


class PowerCut(BaseException):
    """The process is gone. No `except Exception` may hold it up."""


class MemoryFiles(fs.FileSystemHandler):
    """A pyarrow filesystem over a dictionary from path to bytes; folders need not be made."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def get_type_name(self) -> str:
        return "memory"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        if path in self.files:
            return fs.FileInfo(path, fs.FileType.File, size=len(self.files[path]))
        below = any(name.startswith(f"{path}/") for name in self.files)
        return fs.FileInfo(path, fs.FileType.Directory if below else fs.FileType.NotFound)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        start = f"{selector.base_dir}/"
        below = [name for name in self.files if name.startswith(start)]
        if selector.recursive:
            found = {
                start + "/".join(name[len(start) :].split("/")[:depth])
                for name in below
                for depth in range(1, name[len(start) :].count("/") + 2)
            }
        else:
            found = {start + name[len(start) :].split("/")[0] for name in below}
        if not found and not selector.allow_not_found:
            raise FileNotFoundError(selector.base_dir)
        return [self._info(name) for name in sorted(found)]

    def open_input_file(self, path: str) -> pa.NativeFile:
        if path not in self.files:
            raise FileNotFoundError(path)
        return pa.BufferReader(self.files[path])

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return self.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> pa.NativeFile:
        return pa.PythonFile(_Upload(self, path), mode="w")

    def delete_file(self, path: str) -> None:
        del self.files[path]

    def create_dir(self, path: str, recursive: bool) -> None:
        pass

    def _refused(self, *_: Any) -> Any:
        raise NotImplementedError("the outputs of these tests never need it")

    delete_dir = delete_dir_contents = delete_root_dir_contents = _refused
    move = copy_file = open_append_stream = _refused


class _Upload(io.BytesIO):
    """A file that appears when it is closed, as on an object store."""

    def __init__(self, store: MemoryFiles, path: str) -> None:
        super().__init__()
        self._store, self._path = store, path

    def close(self) -> None:
        if not self.closed:
            self._store.files[self._path] = self.getvalue()
        super().close()


class Process:
    """A writer in a thread of its own, which can be suspended and goes on later.

    Only one of all writers and their creator goes on at any time.

    Attributes:
        ended: Whether there is nothing left to do.
        error: What ended it, if not its end.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self.ended = False
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._turn, self._others_turn = threading.Semaphore(0), threading.Semaphore(0)

    def go_on(self) -> None:
        """Let it work until it suspends itself or ends."""
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._turn.release()
        self._others_turn.acquire()

    def suspend(self) -> None:
        """Called in its own thread: wait for the next `go_on`."""
        self._others_turn.release()
        self._turn.acquire()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # the creator looks at it
            self.error = error
        self.ended = True
        self._others_turn.release()


@dataclass
class Fuse:
    """Counts storage operations down to a fault.

    Attributes:
        left: Operations that still succeed; None for all.
        moment: What has happened of the operation that does not.
        fault: Raised by that operation. After an error of the store the next one succeeds again.
        before: Called before the operations of these numbers, the first being 0.
        operations: Operations begun so far.
    """

    left: int | None = None
    moment: Moment = "before"
    fault: type[BaseException] = PowerCut
    before: dict[int, Callable[[], None]] = field(default_factory=dict)
    operations: int = 0

    def burns(self) -> bool:
        """Whether the operation that begins now is the one that fails."""
        if (action := self.before.get(self.operations)) is not None:
            action()
        self.operations += 1
        if self.left is None:
            return False
        self.left -= 1
        return self.left == -1 or (self.left < 0 and self.fault is PowerCut)


@dataclass(frozen=True)
class FragileOutput(Output):
    """An output in memory that a `Fuse` can cut off at every write, delete, listing and look."""

    fuse: Fuse = field(default_factory=Fuse)

    @classmethod
    def over(cls, store: MemoryFiles, fuse: Fuse) -> FragileOutput:
        """The output over a store, as one process would open it."""
        return cls("memory:out", fs.PyFileSystem(store), "out", fuse=fuse)

    def write(self, relative: str, data: bytes | memoryview) -> None:
        cut = self.fuse.burns()
        if cut and self.fuse.moment == "torn":
            # What a killed writer leaves on a local disk: a part under its temporary name.
            folder, _, name = relative.rpartition("/")
            torn = f"{folder}/.{name}.0badcafe".lstrip("/")
            super().write(torn, bytes(data)[: len(data) // 2])
        if not cut or self.fuse.moment == "after":
            super().write(relative, data)
        if cut:
            raise self.fuse.fault("made up")

    def delete(self, relative: str) -> None:
        cut = self.fuse.burns()
        if not cut or self.fuse.moment == "after":
            super().delete(relative)
        if cut:
            raise self.fuse.fault("made up")

    def exists(self, relative: str) -> bool:
        if self.fuse.burns():
            raise self.fuse.fault("made up")
        return super().exists(relative)

    def list_files(self, folder: str) -> list[str]:
        if self.fuse.burns():
            raise self.fuse.fault("made up")
        return super().list_files(folder)

    def list_tree(self, folder: str) -> list[str]:
        if self.fuse.burns():
            raise self.fuse.fault("made up")
        return super().list_tree(folder)
