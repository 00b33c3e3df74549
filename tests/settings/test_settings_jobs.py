"""One model for command line, YAML, environment and Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sentiment.errors import ConfigError
from sentiment.settings.finetune import FinetuneConfig
from sentiment.settings.jobs import ScoreConfig, VerifyConfig
from sentiment.settings.load import JobConfig

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = ["reviews/", "--output", "out"]


def write_yaml(folder: Path, **values: Any) -> str:
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


PATHS = ["a,b", "[x]", "{a}", " a b ", '"q"', "a#b", "50%", "[a,b]", '{"a":1}', "città", "a\\b"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_one_path_however_it_is_called(tmp_path: Path, path: str) -> None:
    yaml_file = write_yaml(tmp_path, sources=[path, "z"], output=path, ignore=[path])
    words = [path, "z", "--output", path, "--ignore", path]
    for config in (
        ScoreConfig.load(words),
        ScoreConfig.load(["--config", str(yaml_file)]),
        ScoreConfig(sources=[path, "z"], output=path, ignore=[path]),
    ):
        assert (config.sources, config.output, config.ignore) == ([path, "z"], path, [path])
    config = VerifyConfig.load([path, "--source", path, "--source", "z"])
    assert (config.output, config.source) == (path, [path, "z"])


@pytest.mark.parametrize("character", [",", ";", '"', "'", "|", "[", "\\", "\x01", "tab", "none"])
def test_a_character_of_a_dialect_is_taken_as_it_is(character: str) -> None:
    words = ["a", "--output", "o", "--csv-delimiter", character, "--csv-quote", character]
    config = ScoreConfig.load(words)
    assert (config.csv_delimiter, config.csv_quote) == (character, character)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--csv-delimiter", ",,", "one ASCII character"),
        ("--encoding", "nope", "no encoding that Python knows"),
        ("--csv-header", "maybe", "'auto', 'yes' or 'no'"),
        ("--format", "xml", "'parquet', 'orc'"),
    ],
)
def test_what_cannot_be_read_is_refused(flag: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ScoreConfig.load(["a", "--output", "o", flag, value])


def test_a_header_may_be_a_boolean_of_yaml(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("sources: [a]\noutput: o\ncsv_header: no\n")
    assert ScoreConfig.load(["--config", str(path)]).csv_header == "no"


def test_all_four_ways_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = ScoreConfig(
        sources=["a", "b"],
        output="out",
        labels=["no", "yes"],
        unit_rows=100,
        gpus_per_actor=0.5,
        decode="generate",
        quiet=True,
    )
    flags = ["a", "b", "--output", "out", "--labels", "no", "--labels", "yes", "--quiet"]
    flags += ["--unit-rows", "100", "--gpus-per-actor", "0.5", "--decode", "generate"]
    assert ScoreConfig.load(flags) == python
    settings = python.model_dump(exclude_unset=True)
    path = write_yaml(tmp_path, **settings)
    assert ScoreConfig.load(["--config", path]) == python.model_copy(update={"config": Path(path)})
    for name, value in {
        "SOURCES": '["a", "b"]',
        "OUTPUT": "out",
        "LABELS": '["no", "yes"]',
        "UNIT_ROWS": "100",
        "GPUS_PER_ACTOR": "0.5",
        "DECODE": "generate",
        "QUIET": "true",
    }.items():
        monkeypatch.setenv(f"SENTIMENT_{name}", value)
    assert ScoreConfig.load([]) == python


def test_command_line_beats_environment_beats_yaml_beats_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_yaml(tmp_path, output="yaml", text_column="yaml", prefix="yaml", unit_rows=7)
    monkeypatch.setenv("SENTIMENT_TEXT_COLUMN", "environment")
    monkeypatch.setenv("SENTIMENT_PREFIX", "environment")
    config = ScoreConfig.load(["in", "--config", path, "--prefix", "flag"])
    assert (config.prefix, config.text_column, config.output) == ("flag", "environment", "yaml")
    assert (config.unit_rows, config.no_progress_sec) == (7, 900)


def test_python_callers_get_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIMENT_TEXT_COLUMN", "environment")
    assert ScoreConfig(sources=["in"], output="out").text_column == "text"


def test_the_file_can_be_named_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIMENT_CONFIG", write_yaml(tmp_path, output="yaml"))
    assert ScoreConfig.load(["in"]).output == "yaml"


def test_yaml_may_spell_settings_like_flags(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("text-column: body\n")
    config = ScoreConfig.load([*MINIMAL, "--config", str(tmp_path / "job.yaml")])
    assert config.text_column == "body"


@pytest.mark.parametrize("content", ["", "# nothing yet\n"])
def test_an_empty_file_sets_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.yaml").write_text(content)
    path = tmp_path / "job.yaml"
    assert ScoreConfig.load([*MINIMAL, "--config", str(path)]).output == "out"


def test_settings_are_frozen() -> None:
    config = ScoreConfig(sources=["in"], output="out")
    with pytest.raises(ValidationError, match="frozen"):
        config.output = "elsewhere"  # type: ignore[misc]


def test_resolved_settings_load_again(tmp_path: Path) -> None:
    config = ScoreConfig.load(
        [*MINIMAL, "--max-rejected", "0.05", "--labels", "a", "--labels", "b"]
    )
    path = write_yaml(tmp_path, **config.resolved())
    again = ScoreConfig.load(["--config", path])
    assert again == config.model_copy(update={"config": Path(path)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reviews/"], "--output: is required"),
        (["--output", "out"], "SOURCE: is required"),
        ([*MINIMAL, "--unit-rows", "0"], "--unit-rows: .*greater than or equal to 1, got '0'"),
        ([*MINIMAL, "--unit-rows", "many"], "--unit-rows: .*valid integer.*, got 'many'"),
        ([*MINIMAL, "--max-rejected", "2"], "--max-rejected: .*less than or equal to 1, got '2'"),
        ([*MINIMAL, "--decode", "freely"], "--decode.*freely"),
        ([*MINIMAL, "--precision", "fp16"], "--precision fp16: .*overflow it; use bf16"),
        ([*MINIMAL, "--prefix", "a b"], "--prefix: .*match pattern.*, got 'a b'"),
        ([*MINIMAL, "--cpus-per-actor", "0"], "--cpus-per-actor: .*0.5, got '0'"),
        ([*MINIMAL, "--no-such", "1"], "--no-such"),
        ([*MINIMAL, "--template", "Review:"], "--template must hold {text} exactly once"),
        ([*MINIMAL, "--labels", "a", "--labels", "a"], r"--labels needs two .*\['a', 'a'\]"),
        ([*MINIMAL, "--labels", "a"], r"--labels needs two .*\['a'\]"),
        (
            [*MINIMAL, "--actors-min", "3", "--actors-max", "2"],
            "--actors-max 2 is less than --actors-min 3",
        ),
        (
            [*MINIMAL, "--decode", "labels", "--num-beams", "4"],
            "--num-beams 4 needs --decode generate",
        ),
        ([*MINIMAL, "--label-column", "text"], "--label-column 'text' is the --text-column"),
        ([*MINIMAL, "--config", "/no/such.yaml"], "--config /no/such.yaml: cannot be read"),
    ],
)
def test_a_mistake_names_flag_value_and_rule(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ScoreConfig.load(arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text_colunm: body", "--text-colunm: no such setting; see `sentiment score --help`"),
        ("[a, b]", "expected settings as `name: value` lines"),
        ("a: [", "cannot be read as YAML"),
        ("unit_rows: none", "--unit-rows: .*got 'none'"),
    ],
)
def test_a_mistake_in_the_file_is_told_the_same_way(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        ScoreConfig.load([*MINIMAL, "--config", str(path)])
    assert "\n" not in str(caught.value)


def test_a_mistake_in_the_environment_is_told_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENTIMENT_UNIT_ROWS", "0")
    with pytest.raises(ConfigError, match=r"--unit-rows: .*got '0'"):
        ScoreConfig.load(MINIMAL)


@pytest.mark.parametrize("settings", [ScoreConfig, FinetuneConfig])
def test_help_mentions_every_setting(
    settings: type[JobConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        settings.load(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    for name, field in settings.model_fields.items():
        flag = "SOURCE" if name == "sources" else f"--{name.replace('_', '-')}"
        assert flag in shown, name
        assert field.description, f"{name} has no description"
        assert field.description.split(" ")[0] in words, name


def test_the_shipped_training_settings_load() -> None:
    path = ROOT / "examples" / "builtin-model" / "builtin.yaml"
    config = FinetuneConfig.load(["--config", str(path), "--train", "t.parquet", "--output", "o"])
    assert config.architecture is not None
    assert config.architecture.vocab_size == 12000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --model or --architecture"),
        (["--model", "m", "--template", "x"], "--template must hold {text} exactly once"),
        (["--model", "m", "--label-texts", '{"a": "x", "b": "x"}'], "--label-texts needs two"),
    ],
)
def test_training_settings_are_checked(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FinetuneConfig.load(["--train", "t.parquet", "--output", "o", *arguments])
