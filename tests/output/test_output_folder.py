"""Whole files or none, on a local disk and on another filesystem."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

from sentiment.errors import OutputError
from sentiment.output.folder import Output


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_opening_creates_nothing(tmp_path: Path) -> None:
    Output.open(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_location_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Workers open it again, in a working directory of their own.
    monkeypatch.chdir(tmp_path)
    output = Output.open("out/")
    assert output.location == str(tmp_path / "out")
    assert output.path("a/b") == str(tmp_path / "out" / "a" / "b")


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    assert Output.open(f"file://{tmp_path}/out").location == str(tmp_path / "out")


def test_write_list_delete(tmp_path: Path) -> None:
    output = Output.open(str(tmp_path))
    output.write("dt=1/a", b"one")
    output.write("dt=1/a", memoryview(b"two"))
    output.write("top", b"")
    output.write("dt=1/deeper/b", b"")
    assert (tmp_path / "dt=1" / "a").read_bytes() == b"two"
    assert output.list_files("dt=1") == ["a"]
    assert output.list_files("") == ["top"]
    assert output.list_files("dt=2") == []
    assert output.exists("dt=1/a")
    output.delete("dt=1/a")
    output.delete("dt=1/a")
    assert not output.exists("dt=1/a")
    assert names(tmp_path) == ["dt=1/deeper/b", "top"]


def test_another_filesystem_gets_whole_files_too(tmp_path: Path) -> None:
    output = Output("mock://", fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()), "out")
    (tmp_path / "out").mkdir()
    output.write("a", b"one")
    assert (output.list_files(""), output.exists("a")) == (["a"], True)
    assert (tmp_path / "out" / "a").read_bytes() == b"one"


@pytest.mark.parametrize("at", ["fsync", "replace"])
def test_a_failed_write_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    output = Output.open(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, at, full)
        problem = r"dt=1/a: cannot be written \(No space left on device\); make room and run"
        with pytest.raises(OutputError, match=problem):
            output.write("dt=1/a", b"one")
    assert names(tmp_path) == []
    output.write("dt=1/a", b"one")
    assert names(tmp_path) == ["dt=1/a"]


def test_a_disk_that_fills_up_halfway_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files, which only another process can have, stands for a full disk: the
    # kernel takes a part of the bytes and then refuses.
    script = (
        "import resource, signal, sys\n"
        "from sentiment.errors import OutputError\n"
        "from sentiment.output.folder import Output\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "output = Output.open(sys.argv[1])\n"
        "output.write('dt=1/a', b'before')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    output.write('dt=1/a', bytes(100_000))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "dt=1/a: cannot be written (File too large); make room and run" in done.stdout
    assert names(tmp_path) == ["dt=1/a"]
    assert (tmp_path / "dt=1" / "a").read_bytes() == b"before"


@pytest.mark.parametrize("at", ["makedirs", "replace"])
def test_a_lost_permission_leaves_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    # Patched, because permissions stop nobody who runs the tests as root.
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, at, refused)
    with pytest.raises(OutputError, match=r"a: cannot be written \(.*\); check its permissions"):
        Output.open(str(tmp_path)).write("a", b"one")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions stop nobody who is root")
def test_a_folder_without_permission_to_write_is_named(tmp_path: Path) -> None:
    output = Output.open(str(tmp_path / "out"))
    output.write("a", b"one")
    (tmp_path / "out").chmod(0o500)
    with pytest.raises(OutputError, match=r"b: cannot be written .* check its permissions"):
        output.write("b", b"two")
    (tmp_path / "out").chmod(0o700)
    output.write("b", b"two")
    assert names(tmp_path) == ["out/a", "out/b"]


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    output = Output.open(str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(
        OutputError, match=r"a: cannot be written \(.*\); move what is in its place"
    ):
        output.write("a", b"one")
    assert names(tmp_path) == []
    (tmp_path / "a").rmdir()
    output.write("a", b"one")
    assert names(tmp_path) == ["a"]


def test_a_rename_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_replace(source: str, target: str) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    Output.open(str(tmp_path)).write("dt=1/a", b"one")
    assert steps == ["file", "rename", "folder"]


def test_a_disk_that_does_not_sync_folders_is_good_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    Output.open(str(tmp_path)).write("a", b"one")
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_failed_write_keeps_the_file_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Output.open(str(tmp_path))
    output.write("a", b"one")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        output.write("a", b"two")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"one"


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    output = Output.open(str(tmp_path))
    output.write("dt=1", b"")
    with pytest.raises(OutputError, match="dt=1: cannot be listed"):
        output.list_files("dt=1")
    with pytest.raises(OutputError, match="dt=1/a: cannot be written"):
        output.write("dt=1/a", b"")


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputError, match=r"--output .*out: is a file, expected a folder"):
        Output.open(str(tmp_path / "out"))


def test_an_unknown_filesystem_is_refused() -> None:
    with pytest.raises(OutputError, match=r"--output cannot be opened: .*ftq://x/y"):
        Output.open("ftq://x/y")
