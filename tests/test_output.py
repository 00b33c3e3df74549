"""Whole files or none, on a local disk and on another filesystem."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from pyarrow import fs

from sentiment.errors import OutputError
from sentiment.output import Output


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
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, at, full)
    with pytest.raises(OutputError, match=r"dt=1/a: cannot be written \(No space left on device\)"):
        Output.open(str(tmp_path)).write("dt=1/a", b"one")
    assert names(tmp_path) == []


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
    with pytest.raises(OutputError, match="--output ftq://x/y: cannot be opened"):
        Output.open("ftq://x/y")
