"""An output checked from its files alone: a good one passes, what was tampered with is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs

from sentiment.block import (
    LABEL,
    OFF_LABEL,
    REASON,
    SCORE,
    SCORE_SEC,
    STAGE,
    TOKENISE_SEC,
    TOKENS,
    TRUNCATED,
)
from sentiment.cli import main
from sentiment.errors import OutputError, SourceError, VerificationError
from sentiment.ledger.summary import summarise, write_run
from sentiment.output.commit import Stamp, commit_rowless, commit_unit, serialise
from sentiment.output.committed import read_committed
from sentiment.output.finish import finish, mark_incomplete
from sentiment.output.folder import Output
from sentiment.output.layout import REJECTED_FOLDER, reject_file_of, unit_of_reject_file
from sentiment.output.plan import plan_run
from sentiment.output.receipt import FOOTER_KEY, Footer
from sentiment.settings.jobs import VerifyConfig
from sentiment.source.index import index_shard
from sentiment.source.listing import list_shards
from sentiment.source.options import ReadOptions
from sentiment.source.read import read_unit
from sentiment.texts import TextColumns
from sentiment.verification.job import Verification, check, verify

STAMP = Stamp("model", "config", "0.1.0", "sentiment")

# The lake below, and the rows of the files it becomes.
A = "dt=1/a.parquet"  # rows 0-3, 4-7 and 8-9; rows 2 and 5 have no text
B = "dt=1/b.csv"  # rows 0-4; row 1 is malformed
C = "dt=2/c.parquet"  # rows 0-3 and 4-5
EMPTY = "dt=2/empty.parquet"
TORN = "dt=2/torn.parquet"


def write_lake(lake: Path) -> Path:
    """Two folders: good shards, bad rows, an empty shard and one that cannot be read."""
    for folder in ("dt=1", "dt=2"):
        (lake / folder).mkdir(parents=True)
    texts = [None if row in (2, 5) else f"Secret review {row}" for row in range(10)]
    pq.write_table(pa.table({"id": range(10), "text": texts}), lake / A)
    (lake / B).write_text("id,text\n0,Secret\n1,Secret,too,many\n2,Secret\n3,Secret\n4,Secret\n")
    pq.write_table(pa.table({"text": [f"Secret review {row}" for row in range(6)]}), lake / C)
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), lake / EMPTY)
    (lake / TORN).write_bytes(b"PAR1 and no more")
    return lake


def scored(block: pa.Table) -> pa.Table:
    """A block as it leaves the scorer, without a model: rows without text are rejected."""
    count = block.num_rows
    lacking = pc.and_(pc.is_null(block.column("text")), pc.is_null(block.column(REASON)))
    for name, value in ((STAGE, "tokenise"), (REASON, "null_text")):
        filled = pc.if_else(lacking, value, block.column(name))
        block = block.set_column(block.column_names.index(name), name, filled)
    good = pc.is_null(block.column(REASON))
    rows = np.arange(count)
    for name, values in {
        TOKENS: pa.array(rows + 3, pa.int32()),
        TRUNCATED: pa.array(rows % 2 == 0),
        LABEL: pa.array([("negative", "positive")[row % 2] for row in rows]),
        SCORE: pa.array((0.6 + rows % 40 / 100).astype(np.float32)),
        OFF_LABEL: pa.array((rows % 40 / 1000).astype(np.float32)),
    }.items():
        block = block.append_column(name, pc.if_else(good, values, None))
    for name in (TOKENISE_SEC, SCORE_SEC):
        block = block.append_column(name, pa.array([0.1] * count, pa.float32()))
    return block


def score(lake: Path, output: Output, stamp: Stamp = STAMP, unit_rows: int = 4) -> None:
    """Commit what the output lacks, through the same parts as a run, without Ray and a model."""
    shards = list_shards([str(lake)]).shards
    plan = plan_run(
        [index_shard(shard) for shard in shards],
        read_committed(output, shards).footers,
        config_digest=stamp.config_digest,
        unit_rows=unit_rows,
        on_change="rescore",
    )
    mark_incomplete(output, plan)
    footers = []
    for shard in plan.shards:
        index = shard.index
        if shard.rowless:
            footers.append(commit_rowless(output, stamp, index))
        for unit in shard.units:
            assert index.columns is not None
            rows = scored(read_unit(unit, index.columns))
            footers.append(commit_unit(output, stamp, unit, rows))
    done: dict[str, list[Footer]] = {}
    for one in footers:
        done.setdefault(one.source_file, []).append(one)
    for folder, folder_plans in plan.folders.items():
        assert finish(output, folder, folder_plans, done) is None


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A lake and its output, made once; tests work on copies."""
    root = tmp_path_factory.mktemp("made")
    lake = write_lake(root / "lake")
    score(lake, Output.open(str(root / "out")))
    return lake, root / "out"


@pytest.fixture
def out(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """An output to tamper with; its sources are read only."""
    return shutil.copytree(made[1], tmp_path / "out")


def found(out: Path, *, deep: bool = False, sources: list[Path] | None = None) -> Verification:
    places = None if sources is None else [str(one) for one in sources]
    return check(Output.open(str(out)), deep=deep, sources=places, options=ReadOptions())


def problems(out: Path, *, deep: bool = False, sources: list[Path] | None = None) -> str:
    """All problems, a line each."""
    listed = found(out, deep=deep, sources=sources).problems
    text = "".join(f"{one.path}: {one.what}\n" for one in listed)
    assert "Secret" not in text
    return text


def file_of(out: Path, shard: str, first: int = 0) -> Path:
    """The data file of a shard that starts with this row."""
    [path] = out.glob(f"{shard}-*-{first:010d}-*.parquet")
    return path


def reject_of(out: Path, path: Path) -> Path:
    """The reject file of a data file; its earlier name if it has none."""
    found = {unit_of_reject_file(name(out, one)): one for one in rejects_in(out)}
    return found.get(name(out, path), out / REJECTED_FOLDER / path.relative_to(out))


def rejects_in(out: Path) -> list[Path]:
    return sorted((out / REJECTED_FOLDER).rglob("*.pq"))


def name(out: Path, path: Path) -> str:
    return str(path.relative_to(out))


def footer_of(path: Path) -> Footer:
    footer = Footer.from_metadata(pq.read_metadata(path).metadata)
    assert footer is not None
    return footer


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **footer: Any) -> None:
    """Write a data file again with other rows, and with its footer but for some values."""
    kept = replace(footer_of(path), **footer)
    table = pq.read_table(path, partitioning=None).replace_schema_metadata(None)
    path.write_bytes(serialise(change(table), kept))


def rewrite_rejects(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path.write_bytes(serialise(change(pq.read_table(path, partitioning=None))))


def same(table: pa.Table) -> pa.Table:
    return table


def setting(column: str, values: dict[int, Any]) -> Callable[[pa.Table], pa.Table]:
    """A change of single values of a column, by position."""

    def change(table: pa.Table) -> pa.Table:
        index = table.column_names.index(column)
        old = table.column(index).to_pylist()
        new = [values.get(row, value) for row, value in enumerate(old)]
        return table.set_column(index, table.field(index), pa.array(new, table.field(index).type))

    return change


# Good outputs.


@pytest.mark.parametrize("deep", [False, True])
def test_a_good_output_passes(made: tuple[Path, Path], deep: bool) -> None:
    lake, out = made
    result = found(out, deep=deep, sources=[lake])
    assert result.problems == ()
    assert (result.files, result.shards) == (8, 5)
    # Rejected: two without text, one malformed record, one file that cannot be read.
    assert (result.labelled, result.rejected, result.rows) == (18, 4, 22)
    assert (result.folders_complete, result.folders_incomplete) == (2, 0)


def test_an_output_at_the_top_passes(tmp_path: Path) -> None:
    lake = write_lake(tmp_path / "lake") / "dt=1"
    flat = shutil.copytree(lake, tmp_path / "flat")
    score(flat, Output.open(str(tmp_path / "out")))
    assert (tmp_path / "out" / "_SUCCESS").exists()
    assert problems(tmp_path / "out", deep=True, sources=[flat]) == ""


def test_another_prefix_passes(tmp_path: Path) -> None:
    lake = write_lake(tmp_path / "lake")
    score(lake, Output.open(str(tmp_path / "out")), replace(STAMP, prefix="mood"))
    assert problems(tmp_path / "out", deep=True, sources=[lake]) == ""


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(1, 12))
def test_whatever_was_committed_passes(
    tmp_path_factory: pytest.TempPathFactory, texts: list[bool], unit_rows: int
) -> None:
    root = tmp_path_factory.mktemp("any")
    source = root / "a.parquet"
    values = ["text" if text else None for text in texts]
    pq.write_table(pa.table({"text": pa.array(values, pa.string())}), source)
    score(source, Output.open(str(root / "out")), unit_rows=unit_rows)
    result = found(root / "out", deep=True, sources=[source])
    assert result.problems == ()
    assert (result.labelled, result.rejected) == (sum(texts), len(texts) - sum(texts))


def test_another_filesystem_passes(made: tuple[Path, Path]) -> None:
    below = fs.SubTreeFileSystem(str(made[1].parent), fs.LocalFileSystem())
    output = Output("mock://out", below, "out")
    result = check(output, deep=True, sources=None, options=ReadOptions())
    assert (result.files, result.problems) == (8, ())


def test_left_over_temporary_files_are_told_and_no_failure(out: Path) -> None:
    for folder in (out / "dt=1", out / REJECTED_FOLDER / "dt=1"):
        (folder / ".a.parquet-1234.parquet.0123abcd").write_bytes(b"half")
    (out / "dt=1" / ".part.crc").write_bytes(b"somebody else's")
    result = found(out)
    assert (result.temporary, result.problems) == (2, ())


def test_a_source_that_vanished_is_no_problem_by_itself(tmp_path: Path) -> None:
    lake = write_lake(tmp_path / "lake")
    score(lake, Output.open(str(tmp_path / "out")))
    shutil.rmtree(lake)
    assert problems(tmp_path / "out", deep=True) == ""


def test_sources_are_part_of_an_output_that_holds_more(made: tuple[Path, Path]) -> None:
    lake, out = made
    assert problems(out, sources=[lake / "dt=1"]) == ""
    assert problems(out, sources=[lake / "dt=2" / "c.parquet"]) == ""
    assert problems(out, sources=[lake / "dt=*"]) == ""


# Files that are gone, or should not be there.


def test_a_deleted_data_file_is_found(made: tuple[Path, Path], out: Path) -> None:
    file_of(out, A, 4).unlink()
    assert f"{made[0] / A}: no data file holds rows 4 to 7" in problems(out)


def test_reject_files_of_earlier_versions_pass(out: Path) -> None:
    """They ended in `.parquet`, which some readers took for data."""
    for reject in rejects_in(out):
        earlier = reject.with_suffix(".parquet")
        reject.rename(earlier)
        path = out / unit_of_reject_file(name(out, earlier))
        rewrite(path, same, reject_file=name(out, earlier))
    assert problems(out, deep=True) == ""


def test_the_reject_file_of_a_deleted_data_file_is_found(out: Path) -> None:
    path = file_of(out, A, 4)
    rejects = reject_of(out, path)
    path.unlink()
    assert f"{name(out, rejects)}: is named by no data file" in problems(out)


def test_the_last_file_of_a_shard_is_missed_by_the_account_of_its_run(
    made: tuple[Path, Path], out: Path
) -> None:
    footers = [footer_of(path) for path in sorted(out.glob("dt=*/*.parquet"))]
    for run_id, told in (("20261101T", footers), ("20261102T", footers[:1])):
        values = {"run_id": run_id, "output": "out", "expected": 0, "wall_sec": 1.0}
        values["run"] = {"finished_at": "2026-11-01T00:00:00Z", "model": {"digest": "m"}}
        write_run(Output.open(str(out)), summarise(committed=told, reused=[], **values), told)
    file_of(out, C, 4).unlink()
    line = "dt=2: holds 5 rows, but _sentiment/runs/20261101T/metrics.pq counts 7"
    assert line in problems(out)


def test_the_last_file_of_a_shard_is_missed_by_its_source(
    made: tuple[Path, Path], out: Path
) -> None:
    file_of(out, C, 4).unlink()
    assert problems(out) == "", "nothing but source or run knows where a shard ends"
    line = f"{made[0] / C}: no data file holds rows 4 to 5\n"
    assert problems(out, sources=[made[0]]) == line


def test_a_torn_account_of_a_run_is_found(out: Path) -> None:
    path = out / "_sentiment/runs/20261101T/metrics.pq"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1")
    assert f"{name(out, path)}: cannot be read" in problems(out)


@pytest.mark.parametrize("shard", [C, EMPTY, TORN])
def test_a_deleted_shard_is_found_with_its_source(
    made: tuple[Path, Path], out: Path, shard: str
) -> None:
    for path in out.glob(f"{shard}-*"):
        path.unlink()
    assert f"{made[0] / shard}: no data file stands for it" in problems(out, sources=[made[0]])


def test_a_deleted_reject_file_is_found(out: Path) -> None:
    path = file_of(out, A, 4)
    reject_of(out, path).unlink()
    line = f"{name(out, path)}: its footer says 1 rejected, but there is no reject file\n"
    assert problems(out) == line


def test_a_reject_file_of_nothing_rejected_is_found(out: Path) -> None:
    path = file_of(out, C)
    shutil.copy(reject_of(out, file_of(out, A)), reject_of(out, path))
    assert f"{name(out, path)}: has a reject file, but" in problems(out)


def test_a_copy_under_another_name_is_found(out: Path) -> None:
    path = file_of(out, C)
    copy = path.with_name("copy.parquet")
    shutil.copy(path, copy)
    assert problems(out) == f"dt=2/copy.parquet: is {name(out, path)} by its footer: " + (
        "it was copied, moved or renamed\n"
    )
    assert found(out).labelled == 18, "a copy counts for no rows"


def test_a_file_in_another_folder_is_found(out: Path) -> None:
    path = file_of(out, TORN)
    path.rename(out / "dt=1" / path.name)
    assert problems(out).startswith(f"dt=1/{path.name}: is {name(out, path)} by its footer")


def test_a_foreign_parquet_file_is_found(out: Path) -> None:
    pq.write_table(pa.table({"text": ["Secret"]}), out / "dt=1" / "foreign.parquet")
    assert problems(out).startswith("dt=1/foreign.parquet: was not written by sentiment")


def test_a_foreign_file_of_any_kind_is_found(out: Path) -> None:
    (out / "dt=1" / "notes.txt").write_text("Secret")
    assert problems(out).startswith("dt=1/notes.txt: cannot be read")


@pytest.mark.parametrize("left", [0, 3, 100, -1])
def test_a_truncated_file_is_found(out: Path, left: int) -> None:
    path = file_of(out, C)
    path.write_bytes(path.read_bytes()[:left])
    assert problems(out).startswith(f"{name(out, path)}: cannot be read")


def test_a_missing_success_is_found(out: Path) -> None:
    (out / "dt=1" / "_SUCCESS").unlink()
    assert problems(out) == "dt=1: is incomplete: it holds data files but no _SUCCESS\n"
    assert (found(out).folders_complete, found(out).folders_incomplete) == (1, 1)


def test_a_success_without_data_is_found(out: Path) -> None:
    for path in out.glob("dt=2/*.parquet"):
        path.unlink()
    assert "dt=2: says _SUCCESS, but holds no data file" in problems(out)


# Files whose content was changed.


def test_a_row_removed_from_a_file_is_found(out: Path) -> None:
    path = file_of(out, C)
    rewrite(path, lambda table: table.slice(1))
    assert problems(out) == f"{name(out, path)}: holds 3 rows, its footer says 4 labelled\n"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"labelled": 3}, "holds 4 rows, its footer says 3 labelled"),
        ({"rejected": 1}, "which is not the 4 rows from 0 to 3"),
        ({"last_row": 2}, "another source or other rows than its name"),
        ({"source_file": "/lake/other"}, "another source or other rows than its name"),
        ({"metrics": {"labels": {}, "rejected": {}}}, "count 0 labelled and 0 rejected"),
        ({"metrics": {"labels": {"positive": 4}}}, "cannot be added up"),
        ({"labelled": "4"}, "impossible values"),
        ({"first_row": -1}, "impossible values"),
        ({"metrics": []}, "impossible values"),
        ({"fingerprint": "other"}, "was made from another version of the source"),
    ],
    ids=str,
)
def test_a_footer_that_was_changed_is_found(
    out: Path, changes: dict[str, Any], complaint: str
) -> None:
    path = file_of(out, C)
    rewrite(path, same, **changes)
    assert complaint in problems(out)


@pytest.mark.parametrize(
    "footer", [b"", b"{", b"[]", b"[1, 2]", b'{"unit_id": "a"}', b'{"\xff": 1}', b"null"]
)
def test_a_footer_that_is_none_is_found(out: Path, footer: bytes) -> None:
    path = file_of(out, C)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({FOOTER_KEY: footer}), path)
    assert problems(out).startswith(f"{name(out, path)}: cannot be read")


@pytest.mark.parametrize("column", ["sentiment", "sentiment_tokens", "sentiment_source_row"])
def test_an_added_column_that_is_gone_is_found(out: Path, column: str) -> None:
    path = file_of(out, C)
    rewrite(path, lambda table: table.drop_columns([column]))
    assert f"{name(out, path)}: the" in problems(out)
    assert "added columns are" in problems(out)


def test_an_added_column_of_another_type_is_found(out: Path) -> None:
    path = file_of(out, C)
    rewrite(
        path,
        lambda table: table.set_column(
            2, "sentiment_score", table.column("sentiment_score").cast(pa.float64())
        ),
    )
    assert problems(out).endswith("missing or of another type: sentiment_score\n")


def test_source_columns_that_differ_within_a_shard_are_found(out: Path) -> None:
    path = file_of(out, C, 4)
    rewrite(path, lambda table: table.add_column(0, "more", pa.array([1, 2])))
    line = f"{name(out, path)}: was made from another set of source columns than"
    assert problems(out).startswith(line)


@pytest.mark.parametrize("digest", ["config_digest", "model_digest"])
def test_mixed_digests_are_found_with_a_file_of_each(out: Path, digest: str) -> None:
    path = file_of(out, C)
    rewrite(path, same, **{digest: "other"})
    [line] = problems(out).splitlines()
    assert line.startswith(f"{name(out, path)}: has {digest.replace('_', ' ')} other, but dt=1/")


def test_overlapping_ranges_are_found(made: tuple[Path, Path], out: Path) -> None:
    path = file_of(out, C)
    other = path.with_name(path.name.replace("0000000000-0000000003", "0000000003-0000000003"))
    shutil.copy(path, other)
    counts = {"labels": {"positive": {"rows": 1}}, "rejected": {}}
    rewrite(
        other,
        lambda table: table.slice(3),
        unit_id=name(out, other),
        first_row=3,
        labelled=1,
        metrics=counts,
    )
    line = f"{name(out, other)}: shares row 3 of {made[0] / C} with {name(out, path)}\n"
    assert problems(out) == line


def test_two_ends_of_a_shard_are_found(out: Path) -> None:
    path = file_of(out, TORN)
    other = path.with_name(path.name.replace("0000000000", "0000000007"))
    shutil.copy(path, other)
    rejects = reject_file_of(name(out, other), reject_of(out, path).read_bytes())
    shutil.copy(reject_of(out, path), out / rejects)
    changes = {"unit_id": name(out, other), "reject_file": rejects}
    rewrite(other, same, first_row=7, last_row=6, **changes)
    text = problems(out)
    assert f"{name(out, other)}: stands for damage from row 7 on, but rows end before 0" in text
    assert f"{name(out, other)}: stands for the end of a source, and so does" in text


def test_an_empty_source_with_rows_is_found(out: Path) -> None:
    path, donor = file_of(out, EMPTY), file_of(out, C)
    source = footer_of(path)
    other = path.with_name(path.name.replace("none", "0000000003"))
    shutil.copy(donor, other)
    changes = {"unit_id": name(out, other), "source_file": source.source_file}
    rewrite(other, same, fingerprint=source.fingerprint, **changes)
    assert f"{name(out, path)}: says that its source is empty" in problems(out)


# Rows that were changed: only --deep sees them.


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            setting("sentiment", {0: "positive"}),
            "holds 1 rows of label 'negative', its footer counts 2",
        ),
        (setting("sentiment", {0: "Secret"}), "holds 1 rows of label 'negative'"),
        (setting("sentiment", {0: None}), "is null somewhere in sentiment"),
        (setting("sentiment_score", {1: 1.5}), "not within 0 and 1 somewhere in sentiment_score"),
        (setting("sentiment_score", {1: -0.1}), "not within 0 and 1 somewhere in sentiment_score"),
        (setting("sentiment_score", {1: float("nan")}), "not within 0 and 1 somewhere in"),
        (setting("sentiment_score", {1: None}), "is null somewhere in sentiment_score"),
        (setting("sentiment_score", {1: 0.95}), "do not give"),
        (setting("sentiment_off_label", {1: 2.0}), "somewhere in sentiment_off_label"),
        (setting("sentiment_off_label", {1: 0.9}), "do not give"),
        (setting("sentiment_tokens", {1: 1000}), "do not give"),
        (setting("sentiment_truncated", {1: True}), "do not give"),
        (setting("sentiment_source_file", {1: "other"}), "is not always the source"),
        (setting("sentiment_source_row", {1: 7}), "row 1 is neither in it nor in its reject"),
        (setting("sentiment_source_row", {1: -1}), "holds rows beyond its range"),
        (setting("sentiment_source_row", {3: 4}), "row 3 is neither in it nor in its reject"),
        (lambda table: table.take([0, 1, 2, 2]), "row 2 is there more than once"),
    ],
    ids=range(17),
)
def test_changed_rows_are_found_by_reading_them(
    out: Path, change: Callable[[pa.Table], pa.Table], complaint: str
) -> None:
    path = file_of(out, C)
    rewrite(path, change)
    assert problems(out) == ""
    lines = problems(out, deep=True).splitlines()
    assert any(complaint in line for line in lines), lines
    assert all(line.startswith(f"{name(out, path)}: ") for line in lines)


def swapped(*columns: str, order: Sequence[int]) -> Callable[[pa.Table], pa.Table]:
    """Put the values of these columns into another order of rows."""

    def change(table: pa.Table) -> pa.Table:
        for column in columns:
            place = table.schema.get_field_index(column)
            values = table[column].combine_chunks().take(pa.array(order))
            table = table.set_column(place, column, values)
        return table

    return change


@pytest.mark.parametrize(
    "change",
    [
        swapped("text", order=[2, 1, 0, 3]),
        swapped("sentiment_score", "sentiment_off_label", order=[2, 1, 0, 3]),
        swapped("sentiment_tokens", "sentiment_truncated", order=[2, 1, 0, 3]),
        swapped(
            "sentiment", "sentiment_score", "sentiment_off_label", "sentiment_tokens",
            "sentiment_truncated", order=[1, 0, 2, 3],
        ),
        setting("text", {1: "Secret review of nobody"}),
    ],
    ids=["texts", "scores", "lengths", "labels", "a text"],
)  # fmt: skip
def test_values_that_change_places_are_found(
    out: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    """Counts by label may stay as they are."""
    path = file_of(out, C)
    rewrite(path, change)
    assert problems(out) == ""
    told = problems(out, deep=True)
    assert told.startswith(f"{name(out, path)}: "), told
    assert len(told.splitlines()) == 1 or "do not give" in told


def test_a_copy_with_another_compression_is_the_same(out: Path) -> None:
    path = file_of(out, C)
    footer = pq.read_metadata(path).metadata[FOOTER_KEY]
    table = pq.read_table(path, partitioning=None)
    with pq.ParquetWriter(path, table.schema, compression="NONE", use_dictionary=False) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY: footer})
    assert problems(out, deep=True) == ""


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda table: table.drop_columns(["detail"]), "has not the columns of a reject file"),
        (setting("source_file", {0: "other"}), "holds rows of another source"),
        (setting("source_row_end", {0: None}), "whose last row is missing"),
        (setting("source_row_end", {0: 1}), "or before its first"),
        (setting("source_row_end", {0: 3}), "row 3 is there more than once, reject file included"),
        (setting("source_row_end", {0: 2**62}), "or its reject file does"),
        (lambda table: table.slice(1), "row 2 is neither in it nor in its reject file"),
        (setting("reason", {0: "empty_text"}), "holds 0 rows of null_text, its footer counts 1"),
    ],
    ids=range(8),
)
def test_changed_rejects_are_found_by_reading_them(
    out: Path, change: Callable[[pa.Table], pa.Table], complaint: str
) -> None:
    path = file_of(out, A)
    rewrite_rejects(reject_of(out, path), change)
    assert problems(out) == ""
    assert complaint in problems(out, deep=True)


def test_a_change_of_a_reject_that_adds_up_is_found(out: Path) -> None:
    path = reject_of(out, file_of(out, A))
    rewrite_rejects(path, setting("detail", {0: "nothing special"}))
    line = f"{name(out, path)}: was changed: its name was made from other content\n"
    assert problems(out, deep=True) == line


def test_a_changed_reject_of_damage_is_found(out: Path) -> None:
    path = reject_of(out, file_of(out, TORN))
    rewrite_rejects(path, setting("source_row_end", {0: 5}))
    line = f"{name(out, path)}: is not the one reject of everything from row 0 on\n"
    assert problems(out, deep=True) == line


@pytest.mark.parametrize("shard", [A, C])
def test_a_damaged_page_is_found_in_any_column(out: Path, shard: str) -> None:
    path = file_of(out, shard)
    metadata = pq.read_metadata(path).row_group(0)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        start = column.dictionary_page_offset or column.data_page_offset
        damaged = bytearray(path.read_bytes())
        damaged[start : start + column.total_compressed_size] = os.urandom(
            column.total_compressed_size
        )
        copy = shutil.copytree(out, out.parent / f"copy-{shard[-9]}-{number}")
        (copy / path.relative_to(out)).write_bytes(damaged)
        assert problems(copy) == ""
        assert problems(copy, deep=True).startswith(f"{name(out, path)}: its rows cannot be read")


def test_a_label_that_is_no_text_is_found(out: Path) -> None:
    path = file_of(out, C)
    table = pq.read_table(path, partitioning=None)
    stamped = table.replace_schema_metadata(footer_of(path).to_metadata())
    # Uncompressed, so that a byte of a page can be replaced without damage to the page.
    pq.write_table(stamped, path, compression="none")
    path.write_bytes(path.read_bytes().replace(b"negative", b"negativ\xff", 1))
    assert problems(out, deep=True).startswith(f"{name(out, path)}: its rows cannot be read")


def test_a_column_name_that_is_no_text_is_found(out: Path) -> None:
    path, rejects = file_of(out, C), reject_of(out, file_of(out, A))
    path.write_bytes(path.read_bytes().replace(b"sentiment_tokens", b"sentiment_token\xff"))
    rejects.write_bytes(rejects.read_bytes().replace(b"detail", b"detai\xff"))
    text = problems(out, deep=True)
    assert f"{name(out, path)}: cannot be read ('utf-8' codec" in text
    assert f"{name(out, rejects)}: its rows cannot be read ('utf-8' codec" in text


@pytest.mark.faults
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_whatever_bytes_are_changed_nothing_but_problems_come_of_it(
    made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    out = shutil.copytree(made[1], tmp_path_factory.mktemp("damaged") / "out")
    files = sorted(str(path.relative_to(out)) for path in out.rglob("*.parquet"))
    path = out / data.draw(st.sampled_from(files))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 20))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    # Not every change shows: where Parquet has no checksum, a letter of a review may differ.
    assert found(out, deep=True).files == 8


# Sources that changed.


@pytest.fixture
def own(tmp_path: Path) -> tuple[Path, Path]:
    """A lake to change, and its output."""
    lake = write_lake(tmp_path / "lake")
    score(lake, Output.open(str(tmp_path / "own")))
    return lake, tmp_path / "own"


def test_a_source_that_grew_is_found(own: tuple[Path, Path]) -> None:
    lake, out = own
    with (lake / B).open("a") as file:
        file.write("5,Secret\n")
    line = f"{lake / B}: changed since it was scored: 6 rows now, 5 in the output\n"
    assert problems(out, sources=[lake]) == line
    assert problems(out) == ""


def test_a_new_source_is_found(own: tuple[Path, Path]) -> None:
    lake, out = own
    shutil.copy(lake / C, lake / "dt=2" / "new.parquet")
    assert problems(out, sources=[lake]) == (
        f"{lake}/dt=2/new.parquet: no data file stands for it: "
        "it was never scored, or they were deleted\n"
    )


@pytest.mark.parametrize("pattern", ["", "dt=*", "dt=2/*.parquet", "**"])
def test_a_deleted_source_is_found(own: tuple[Path, Path], pattern: str) -> None:
    lake, out = own
    (lake / C).unlink()
    text = problems(out, sources=[lake / pattern])
    assert text.startswith(f"{lake / C}: is gone, but the output holds its rows")
    assert problems(out, sources=[lake / "dt=1"]) == "", "it is not below this source"


def test_more_rows_than_a_source_has_are_found(own: tuple[Path, Path]) -> None:
    lake, out = own
    # As if the file had been cut without a trace in size, time or footer.
    shard = list_shards([str(lake / B)]).shards[0]
    shorter = (lake / B).read_text().replace("3,Secret\n4,Secret\n", "3,Secret         \n")
    (lake / B).write_text(shorter)
    os.utime(lake / B, ns=(0, int(shard.fingerprint.split("-")[1])))
    line = f"{lake / B}: the output holds row 4, which the source has not\n"
    assert problems(out, sources=[lake]) == line


def test_damage_that_no_file_tells_of_is_found(own: tuple[Path, Path]) -> None:
    lake, out = own
    shard = list_shards([str(lake / B)]).shards[0]
    text = (lake / B).read_text().replace("3,Secret\n4,Secret\n", '3,Sec\n4,Sec\n"aaaaa')
    (lake / B).write_text(text)
    os.utime(lake / B, ns=(0, int(shard.fingerprint.split("-")[1])))
    line = f"{lake / B}: is damaged from row 5 on, which no data file says\n"
    assert problems(out, sources=[lake]) == line


def test_a_source_without_the_text_column_is_refused(made: tuple[Path, Path]) -> None:
    output = Output.open(str(made[1]))
    with pytest.raises(SourceError, match="no column 'body'"):
        check(
            output,
            deep=False,
            sources=[str(made[0] / C)],
            options=ReadOptions(TextColumns(("body",))),
        )


# What the caller gets and a shell sees.


def test_a_good_output_is_returned(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result = verify(VerifyConfig(output=str(made[1])))
    assert (result.rows, result.deep, result.problems) == (22, False, ())
    shown = capsys.readouterr().out
    assert "22 rows = 18 labelled + 4 rejected\n" in shown
    assert "files     8\nshards    5\n" in shown
    assert "folders   2 complete\n" in shown
    assert f"output    {made[1]}\n" in shown
    assert shown.endswith("no problems\n")


def test_twenty_problems_are_shown_and_the_others_counted(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        (out / "dt=1" / f"{'long' * 30}[bold]{number}.txt").write_bytes(b"")
    with pytest.raises(VerificationError, match=r"25 problems, the first: dt=1/long.*0\.txt: "):
        verify(VerifyConfig(output=str(out)))
    shown = capsys.readouterr().out.splitlines()
    assert sum("[bold]" in line for line in shown) == 20
    assert shown[-1] == "  and 5 more"


def test_exit_codes(
    made: tuple[Path, Path], out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(made[1]), "--source", str(made[0]), "--deep"]) == 0
    assert capsys.readouterr().err == ""
    (out / "dt=2" / "_SUCCESS").unlink()
    assert main(["verify", str(out), "--quiet"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith(f"sentiment verify: {out}: 1 problem, the first: dt=2: is incomplete")
    assert main(["verify", str(tmp_path / "no")]) == 2
    assert "no: holds no data files; name the --output" in capsys.readouterr().err
    assert main(["verify"]) == 2
    assert "required: OUTPUT" in capsys.readouterr().err


@pytest.mark.parametrize("content", [[], ["_SUCCESS"], ["_sentiment/rejected/a.parquet"]])
def test_an_output_without_data_is_refused(tmp_path: Path, content: list[str]) -> None:
    for path in content:
        Output.open(str(tmp_path)).write(path, b"")
    with pytest.raises(OutputError, match="holds no data files; name the --output"):
        verify(VerifyConfig(output=str(tmp_path)))


def test_a_file_name_that_is_no_text_is_refused(out: Path) -> None:
    Path(os.fsdecode(os.fsencode(out / "dt=1") + b"/\xff.parquet")).write_bytes(b"")
    with pytest.raises(OutputError, match="holds a file name that is not UTF-8"):
        verify(VerifyConfig(output=str(out)))


def test_neither_torch_nor_ray_is_needed(made: tuple[Path, Path]) -> None:
    code = (
        "import sys, json; from sentiment.cli import main; "
        f"code = main(['verify', {str(made[1])!r}, '--deep', '--quiet']); "
        "print(json.dumps([code, [n for n in ('torch', 'transformers', 'ray') "
        "if n in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [0, []]
