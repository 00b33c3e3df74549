"""What a shell sees: exit codes, one clear line, and nothing started in vain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import ray

from sentiment import errors
from sentiment.cli import main, run_job
from sentiment.output.commit import Stamp, commit_rowless
from sentiment.output.folder import Output
from sentiment.source.listing import list_shards
from sentiment.source.shards import ShardIndex


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong here goes wrong before a cluster is started."""

    def started(*_: object, **__: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(ray, "init", started)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    path.write_text("id,text,label\n1,Secret words,positive\n")
    return path


def failing(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 2) -> str:
    """Run `score`, expect one line on stderr, give it."""
    assert main(["score", *map(str, arguments)]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("sentiment score: ")
    assert "Secret" not in line
    return line


def test_a_missing_source(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    line = failing(capsys, tmp_path / "no", "--output", tmp_path / "out", "--model", tiny_model)
    assert f"'{tmp_path}/no' does not exist" in line


def test_a_missing_text_column(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path, reviews: Path
) -> None:
    out = tmp_path / "out"
    line = failing(capsys, reviews, "--output", out, "--model", tiny_model, "--text-column", "body")
    assert f"{reviews}: there is no column 'body' among 'id', 'text', 'label'" in line
    assert "--text-column" in line
    assert not out.exists()


def test_a_missing_label_column(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path, reviews: Path
) -> None:
    out = tmp_path / "out"
    line = failing(
        capsys, reviews, "--output", out, "--model", tiny_model, "--label-column", "stars"
    )
    assert "--label-column stars: no source has such a column" in line


def test_a_column_that_would_be_overwritten(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path
) -> None:
    source = tmp_path / "scored.csv"
    source.write_text("text,sentiment_score\na,1\n")
    line = failing(capsys, source, "--output", tmp_path / "out", "--model", tiny_model)
    assert f"{source}: already has a column 'sentiment_score'" in line
    assert "--prefix" in line


@pytest.mark.parametrize("name", ["./no/folder", "mistyped"])
def test_a_missing_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, reviews: Path, name: str
) -> None:
    line = failing(capsys, reviews, "--output", tmp_path / "out", "--model", name)
    assert f"--model {name}: " in line


def test_a_model_the_hub_does_not_give(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    line = failing(capsys, reviews, "--output", tmp_path / "out", "--model", "owner/name")
    assert "--model owner/name: " in line


def test_truncated_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path, reviews: Path
) -> None:
    model = shutil.copytree(tiny_model, tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    line = failing(capsys, reviews, "--output", tmp_path / "out", "--model", model)
    assert f"{model}: the weights cannot be loaded" in line
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path, reviews: Path
) -> None:
    line = failing(capsys, reviews, "--output", reviews, "--model", tiny_model)
    assert f"--output {reviews}: is a file, expected a folder" in line


def test_an_output_made_with_other_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, tiny_model: Path, reviews: Path
) -> None:
    out = tmp_path / "out"
    [shard] = list_shards([str(reviews)]).shards
    stamp = Stamp("other", "other", "0.1.0", "sentiment")
    commit_rowless(Output.open(str(out)), stamp, ShardIndex(shard, 0, None))
    line = failing(capsys, reviews, "--output", out, "--model", tiny_model)
    assert f"{shard.key}-0000000000-none.parquet: was scored with another model" in line
    assert "--on-change rescore" in line


def test_more_gpus_than_there_are(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_model: Path,
    reviews: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    out = tmp_path / "out"
    line = failing(
        capsys, reviews, "--output", out, "--model", tiny_model, "--gpus-per-actor", "99"
    )
    assert "--gpus-per-actor 99: " in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "is required"),
        (["in", "--output", "out", "--unit-rows", "0"], "--unit-rows: "),
        (["in", "--output", "out", "--nonsense"], "--nonsense"),
    ],
)
def test_a_bad_option(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in failing(capsys, *arguments)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SentimentError("x"), 1),
        (errors.ConfigError("x"), 2),
        (errors.SourceError("x"), 2),
        (errors.ModelError("x"), 2),
        (errors.OutputError("x"), 2),
        (errors.LedgerError("x"), 3),
        (errors.VerificationError("x"), 3),
        (errors.RejectedRowsError("x"), 4),
        (None, 0),
    ],
)
def test_every_class_of_failure_has_its_code(
    error: Exception | None,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def score(_: object) -> None:
        if error is not None:
            raise error

    module = ModuleType("sentiment.scoring.job")
    module.score = score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentiment.scoring.job", module)
    assert run_job("score", ["in", "--output", "out"]) == code
    assert capsys.readouterr().err == ("" if error is None else "sentiment score: x\n")


def test_an_interrupted_run_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def score(_: object) -> None:
        raise KeyboardInterrupt

    module = ModuleType("sentiment.scoring.job")
    module.score = score  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentiment.scoring.job", module)
    assert run_job("score", ["in", "--output", "out"]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_no_command_shows_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    shown = capsys.readouterr()
    assert (shown.out, "score" in shown.err, "finetune" in shown.err) == ("", True, True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["scores"], "sentiment scores: no such command; did you mean score?; `sentiment --help`"),
        (["banana"], "sentiment banana: no such command; `sentiment --help` lists them"),
        (["score", "a", "--ouput", "b"], "sentiment score: unrecognized arguments: --ouput b; did"),
        (["completion", "csh"], "sentiment completion: name a shell: bash, zsh, tcsh"),
    ],
)
def test_a_mistyped_word_is_one_line_with_the_nearest_one(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    [told] = shown.err.splitlines()
    assert told.startswith(line)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "usage: sentiment COMMAND" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sentiment {version('sentiment')}\n"


@pytest.mark.parametrize("command", ["score", "finetune"])
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"usage: sentiment {command}" in capsys.readouterr().out


COMPLETE = """
source /dev/stdin <<< "$(python -m sentiment completion bash)"
COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
$(complete -p sentiment | sed "s/.*-F *\\([^ ]*\\).*/\\1/") sentiment "${COMP_WORDS[COMP_CWORD]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("sentiment sc", {"score"}),
        ("sentiment score --ou", {"--output"}),
        ("sentiment score --on-c", {"--on-change"}),
        ("sentiment score --on-change re", {"refuse", "rescore"}),
        ("sentiment finetune --early", {"--early-stopping-patience"}),
    ],
)
def test_bash_completes_commands_flags_and_words(typed: str, completed: set[str]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", COMPLETE, "complete", typed],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()) == completed


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "sentiment" in capsys.readouterr().out
