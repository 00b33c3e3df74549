"""Locations become filesystems and paths; hidden names are told from others."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.storage import is_hidden, open_filesystem


def test_an_output_folder_need_not_exist(tmp_path: Path) -> None:
    _, path = open_filesystem(f"{tmp_path}/new/")
    assert path == f"{tmp_path}/new"
    assert open_filesystem(f"file://{tmp_path}/a%20b")[1] == f"{tmp_path}/a b"


@pytest.mark.parametrize("path", ["_SUCCESS", ".crc", "a/_temporary/b", ".a/b.parquet", "a/.b"])
def test_names_that_readers_skip_are_hidden(path: str) -> None:
    assert is_hidden(path)


@pytest.mark.parametrize("path", ["", "a", "a_b", "a.b", "dt=_1/part-0.parquet", "a/b_/c."])
def test_other_names_are_not_hidden(path: str) -> None:
    assert not is_hidden(path)
