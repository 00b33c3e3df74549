"""The page: what it says about a run, what it leaves out, and that no data can break it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any

import made_up_runs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.block import REASONS
from sentiment.errors import OutputError
from sentiment.ledger.record import parse_run
from sentiment.ledger.runs import Partition, Runs, read_partitions
from sentiment.output.folder import Output
from sentiment.report import job
from sentiment.report.job import report, write_page
from sentiment.report.page import REMEDIES, render
from sentiment.report.pictures import MAX_PARTITIONS
from sentiment.settings.jobs import ReportConfig

HOSTILE = (
    "</style></title><script>alert('x')</script>\"'`]]><!--&lt;{{ 123457*7 }}\x00\x1b\ud800\u202e"
)


class Reader(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title", "desc"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\N{NO-BREAK SPACE}", " ").split())


def page(
    values: dict[str, Any], *partitions: Partition, before: tuple[dict[str, Any], ...] = ()
) -> str:
    run = parse_run(values["run_id"], json.dumps(values))
    runs = Runs((*(parse_run(one["run_id"], json.dumps(one)) for one in before), run), 1)
    return render(run, runs, list(partitions), nights=365)


def text(values: dict[str, Any], *partitions: Partition, **more: Any) -> str:
    return Reader(page(values, *partitions, **more)).text


def made(tmp_path: Path, **settings: Any) -> str:
    place = report(ReportConfig(output=str(tmp_path), **settings))
    return Path(place).read_text(encoding="utf-8")


def test_excluded_rows_are_on_the_page_and_do_not_thin_out_the_rejects() -> None:
    values = made_up_runs.full_run()
    before = text(values)
    assert "excluded" not in before
    ledger = {**values["ledger"], "expected": 1_025_045, "excluded": 1_000_000}
    page_text = text({**values, "ledger": ledger})
    assert "1,025,045 rows = 25,000 labelled + 45 rejected + 0 reused + 1,000,000 excluded" in (
        page_text
    )
    assert "0.18 % of the rows were rejected" in before
    assert "0.18 % of the rows were rejected" in page_text
    none = {"expected": 9, "labelled": 0, "rejected": 0, "reused": 0, "excluded": 9}
    nothing = text({**values, "ledger": none, "counts": {"labels": {}}})
    assert "every row is excluded" in nothing


def test_the_page_says_first_whether_the_labels_can_be_used() -> None:
    page_text = text(made_up_runs.full_run())
    for words in (
        "Usable: every row is accounted for",
        "25,045 rows = 25,000 labelled + 45 rejected + 0 reused",
        "0.18 % of the rows were rejected, the limit is 1.00 %",
        "like 7 earlier runs",
        "accuracy 88.7 %",
        "temperature 1.620, fitted on 5,000 rows",
        "sentiment 0.1.0, ray 2.60.0",
        "384 tokens, both ends of longer texts",
    ):
        assert words in page_text, words


def test_rejects_come_with_their_meaning_and_a_remedy() -> None:
    page_text = text(made_up_runs.run())
    for reason in ("empty_text", "null_text", "malformed_record"):
        assert f"{reason} " in page_text
        assert REASONS[reason] in page_text
        assert REMEDIES[reason] in page_text


def test_every_reason_has_a_remedy() -> None:
    assert set(REMEDIES) == set(REASONS)


def test_few_partitions_are_all_shown_and_many_are_summed_up() -> None:
    few = [Partition(f"dt={number}", {"yes": number}, 0) for number in range(1, MAX_PARTITIONS + 1)]
    many = [*few, Partition("", {"yes": 500, "no": 500}, 0), Partition("dt=0", {"yes": 1}, 0)]
    assert "other partitions" not in text(made_up_runs.run(), *few)
    page_text = text(made_up_runs.run(), *many)
    assert page_text.index("(top folder)") < page_text.index("dt=20")
    assert "2 other partitions" in page_text
    assert "The 20 partitions with the most rows are shown; the other 2 are summed up" in page_text


def test_a_night_without_rows_of_its_own_is_left_out() -> None:
    idle = made_up_runs.full_run(1, scored={"labels": {}})
    unknown = made_up_runs.run(
        2, ledger={"expected": 50_045, "labelled": 25_000, "rejected": 45, "reused": 25_000}
    )
    page_text = text(
        made_up_runs.run(4), before=(made_up_runs.run(0), idle, unknown, made_up_runs.run(3))
    )
    assert "3 runs. The last of them: " in page_text
    assert "2 runs left out" in page_text


ODD = {
    "no rows": made_up_runs.run(ledger=made_up_runs.ledger(0, 0, 0), counts={"labels": {}}),
    "all rejected": made_up_runs.run(counts={"labels": {}, "rejected": {"null_text": 25_045}}),
    "labels without rows": made_up_runs.run(counts={"labels": {"yes": {"rows": 0}}}),
    "many labels": made_up_runs.run(
        counts=made_up_runs.counts({f"label {number}": number for number in range(40)}, {})
    ),
    "bare": made_up_runs.run(
        wall_sec=0.0, rows_per_sec=0.0, config=None, model=None, pool=None, versions=None
    ),
    "no time": made_up_runs.full_run(time={"timeline": [{"sec": 0.0, "rows": 0}]}),
    "no classes": made_up_runs.full_run(
        quality={"accuracy": 0.0, "labels": [], "confusion_matrix": []}
    ),
    "drift without checks": made_up_runs.full_run(drift={"verdict": "drift"}),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_odd_runs_have_a_page_too(values: dict[str, Any]) -> None:
    reader = Reader(page(values))
    assert reader.tags.count("h1") == 1
    assert not reader.open


def hostile(value: Any, numbers: Iterator[int]) -> Any:
    """Return the same values with every text in them replaced."""
    if isinstance(value, dict):
        return {key: hostile(one, numbers) for key, one in value.items()}
    if isinstance(value, list):
        return [hostile(one, numbers) for one in value]
    return f"{HOSTILE}{next(numbers)}" if isinstance(value, str) else value


def hostile_run() -> dict[str, Any]:
    values = made_up_runs.full_run()
    kept = {key: values[key] for key in ("finished_at", "started_at", "run_id")}
    values = {**hostile(values, count()), **kept}
    labels = values["counts"]["labels"]
    values["counts"]["labels"] = {f"{HOSTILE}{name}": part for name, part in labels.items()}
    values["counts"]["rejected"] = {f"{HOSTILE}reason": 45}
    values["counts"]["stage_sec"] = {f"{HOSTILE}stage": 3.5}
    values["time"]["phases"] = {f"{HOSTILE}phase": 3.5}
    values["time"]["stages"] = {}
    values["versions"] = {f"{HOSTILE}library": HOSTILE}
    return values


def test_no_text_of_a_run_becomes_markup() -> None:
    values = hostile_run()
    partitions = [Partition(f"dt={HOSTILE}", {f"{HOSTILE}negative": 3, "b": 1}, 0)]
    plain = Reader(page(made_up_runs.full_run(), Partition("dt=1", {"negative": 3}, 0)))
    html = page(values, *partitions, before=(made_up_runs.run(0),))
    reader = Reader(html)
    assert "script" not in reader.tags
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    assert {name for name, _ in reader.attributes} <= {name for name, _ in plain.attributes} | {
        "data-name"
    }
    assert set(reader.tags) <= set(plain.tags)
    assert "864199" not in html
    assert "<script" not in html
    assert "\x00" not in html
    assert html.encode("utf-8")
    assert "{{ 123457*7 }}" in reader.text


def test_a_page_requests_nothing() -> None:
    html = page(made_up_runs.full_run())
    reader = Reader(html)
    assert {"script", "iframe", "img", "object"}.isdisjoint(reader.tags)
    links = [value for name, value in reader.attributes if name in ("src", "href", "srcset")]
    assert links == ["data:,"]
    assert "@import" not in html
    assert "url(" not in html


def test_a_label_column_full_of_reviews_is_not_shown() -> None:
    reviews = [f"Secret review {number}" for number in range(30)]
    matrix = [[1] * 30 for _ in reviews]
    quality = {"accuracy": 0.5, "labels": reviews, "confusion_matrix": matrix}
    html = page(made_up_runs.full_run(quality=quality))
    assert "Secret" not in html
    assert "30 different values" in Reader(html).text


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    for night in range(3):
        made_up_runs.save(tmp_path, made_up_runs.full_run(night))
    assert made(tmp_path) == made(tmp_path, to=str(tmp_path / "again.html"))


def test_the_last_run_is_the_one_that_finished_last(tmp_path: Path) -> None:
    early = made_up_runs.save(tmp_path, made_up_runs.run(0))
    last = made_up_runs.save(tmp_path, made_up_runs.run(7))
    (tmp_path / "_sentiment" / "runs" / "notes").mkdir()
    assert f"run {last}" in Reader(made(tmp_path)).text
    assert f"run {early}" in Reader(made(tmp_path, run=early)).text


def test_a_page_about_an_earlier_run_shows_no_later_one(tmp_path: Path) -> None:
    ids = [made_up_runs.save(tmp_path, made_up_runs.run(night)) for night in range(5)]
    assert "3 runs. The last of them" in Reader(made(tmp_path, run=ids[2])).text


def test_the_page_is_beside_the_run_or_where_to_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = made_up_runs.save(tmp_path / "out", made_up_runs.run())
    inside = report(ReportConfig(output=str(tmp_path / "out")))
    assert inside == str(tmp_path / "out" / "_sentiment" / "runs" / run_id / "report.html")
    outside = report(
        ReportConfig(output=str(tmp_path / "out"), to=str(tmp_path / "new" / "a.html"))
    )
    assert Path(outside).read_bytes() == Path(inside).read_bytes()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.html"]
    assert capsys.readouterr().out == f"report  {inside}\nreport  {outside}\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"run": "20200101T000000-000000"}, "--run takes one of its 1, the last is "),
        ({"to": "s3://bucket/report.html"}, "is no local file"),
        ({"to": "/"}, "is a folder; name a file in it"),
    ],
)
def test_errors_have_a_remedy(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    made_up_runs.save(tmp_path, made_up_runs.run())
    with pytest.raises(OutputError, match=re.escape(words)):
        report(ReportConfig(output=str(tmp_path), **settings))


def test_an_output_without_runs_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no run has been here"):
        report(ReportConfig(output=str(tmp_path)))


DAMAGE = {
    "torn": '{"run_id": "x", "led',
    "empty": "",
    "a list": "[]",
    "not UTF-8": b"\xff\xfe{}",
    "deep": "[" * 100_000,
    "another version": json.dumps({"run_id": "x", "finished": 1}),
    "negative": json.dumps(made_up_runs.run(5, counts={"labels": {"a": {"rows": -1}}})),
    "not a number": json.dumps(made_up_runs.run(5, ledger={"expected": float("nan")})),
    "no time": json.dumps(made_up_runs.run(5, finished_at="yesterday")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_run_is_left_out_and_named(tmp_path: Path, kind: str) -> None:
    good = made_up_runs.save(tmp_path, made_up_runs.run(4))
    bad = made_up_runs.save(tmp_path, made_up_runs.run(5))
    content = DAMAGE[kind]
    path = tmp_path / "_sentiment" / "runs" / bad / "run.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    page_text = Reader(made(tmp_path, nights=1)).text
    assert f"run {good}" in page_text
    assert f"Run {bad} could not be read" in page_text
    with pytest.raises(OutputError, match="ask for another run with --run"):
        report(ReportConfig(output=str(tmp_path), run=bad))


def test_only_damaged_runs_are_an_error(tmp_path: Path) -> None:
    run_id = made_up_runs.save(tmp_path, made_up_runs.run())
    (tmp_path / "_sentiment" / "runs" / run_id / "run.json").write_text("{")
    with pytest.raises(OutputError, match="none of its 1 runs can be read"):
        report(ReportConfig(output=str(tmp_path)))


def test_unknown_parts_are_left_out_and_named() -> None:
    values = made_up_runs.full_run(drift=["another shape"], time={"timeline": 7})
    page_text = text(values)
    assert "in no form this version knows: drift, time" in page_text
    assert "88.7 %" in page_text


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", None])
def test_without_a_readable_table_only_the_partitions_are_missing(
    tmp_path: Path, content: bytes | None
) -> None:
    run_id = made_up_runs.save(tmp_path, made_up_runs.run())
    path = tmp_path / "_sentiment" / "runs" / run_id / "metrics.pq"
    path.unlink() if content is None else path.write_bytes(content)
    page_text = Reader(made(tmp_path)).text
    assert "metrics.pq of this run could not be read" in page_text
    assert "25,045" in page_text


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(sorted(made_up_runs.full_run())), st.data())
def test_any_value_gives_a_page_or_a_damaged_run(value: Any, key: str, data: st.DataObject) -> None:
    values = made_up_runs.full_run()
    inside = data.draw(
        st.sampled_from(["", *values[key]] if isinstance(values[key], dict) else [""])
    )
    changed = {**values, key: {**values[key], inside: value} if inside else value}
    try:
        parse_run(made_up_runs.run_id(0), json.dumps(changed))
    except ValueError:
        return
    changed["run_id"] = made_up_runs.run_id(0)
    assert not Reader(page(changed, Partition("dt=1", {"negative": 1}, 0))).open


def test_a_year_of_nights_is_shown_and_no_more_than_asked_for(tmp_path: Path) -> None:
    for night in range(370):
        made_up_runs.save(tmp_path, made_up_runs.run(night))
    assert "365 runs. The last of them" in Reader(made(tmp_path)).text
    assert "30 runs. The last of them" in Reader(made(tmp_path, nights=30)).text


def test_a_run_writes_its_page(tmp_path: Path) -> None:
    run_id = made_up_runs.save(tmp_path, made_up_runs.run())
    write_page(Output.open(str(tmp_path)), run_id)
    written = (tmp_path / "_sentiment" / "runs" / run_id / "report.html").read_text()
    assert written == made(tmp_path)


def test_a_page_that_fails_is_a_warning_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise ValueError("Secret review")

    run_id = made_up_runs.save(tmp_path, made_up_runs.run())
    monkeypatch.setattr(job, "render", fail)
    write_page(Output.open(str(tmp_path)), run_id)
    assert "report.html was not written (ValueError)" in caplog.text
    assert "Secret" not in caplog.text


def test_groups_are_not_counted_as_partitions(tmp_path: Path) -> None:
    run_id = made_up_runs.save(tmp_path, made_up_runs.run(), {"dt=1": {"yes": 3}}, {"dt=1": 2})
    path = tmp_path / "_sentiment" / "runs" / run_id / "metrics.pq"
    plain = pq.read_table(path)
    nothing, group = pa.nulls(len(plain), pa.string()), pa.array(["country=de"] * len(plain))
    pq.write_table(
        pa.concat_tables(
            [plain.append_column("group", nothing), plain.append_column("group", group)]
        ),
        path,
    )
    partitions = read_partitions(Output.open(str(tmp_path)), run_id)
    assert partitions == [Partition("dt=1", {"yes": 3}, 2)]


def test_the_report_needs_neither_ray_nor_torch() -> None:
    heavy = "{'ray', 'torch', 'transformers'} & set(sys.modules)"
    code = f"import sys, sentiment.report.job; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
