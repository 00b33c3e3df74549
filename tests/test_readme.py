"""Every command in the README runs, as written, in a copy of what it refers to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from markdown_commands import run

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)

# How each command is run here. One that is missing fails `test_every_command_is_run`.
SCORE = "sentiment score reviews/ --output scored/"
SCORE_LABELS = "sentiment score reviews/ --output scored/ --label-column label"
EVALUATE = "sentiment evaluate reviews/ --output evaluation/"
VERIFY = "sentiment verify scored/ --source reviews/"
REPLAY = "sentiment replay scored/"
REPORT = "sentiment report scored/"
SUBMIT = (
    "ray job submit --working-dir . -- python jobs/score.py examples/reviews "
    "--output /tmp/scored --max-rejected 0.05"
)
ACTIVATE = "source .venv/bin/activate"
FINETUNE = (
    "sentiment finetune --config examples/builtin-model/builtin.yaml --train train.parquet "
    "--output models/mine"
)


@pytest.fixture
def folder_with_reviews(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples" / "reviews" / "dt=2026-11-19", tmp_path / "reviews")
    return tmp_path


def test_every_command_is_run() -> None:
    commands = {line for block in COMMANDS for line in block.strip().splitlines()}
    assert commands == {
        "make demo", "make test", SCORE, SCORE_LABELS, EVALUATE, VERIFY, REPLAY, REPORT, SUBMIT,
        FINETUNE, ACTIVATE,
    }  # fmt: skip
    assert len(PYTHON) == 1


@pytest.mark.ray
def test_make_demo(tmp_path: Path) -> None:
    output = tmp_path / "demo"
    stamp = Path(sys.prefix) / ".installed"
    if not stamp.exists():
        pytest.skip("this environment was not made by `make setup`, which the demo would redo")
    # `make` must not find the stamp older than pyproject.toml in a fresh checkout's mtimes.
    os.utime(stamp)
    command = f"make demo VENV={sys.prefix} DEMO_OUTPUT={output}"
    first = run(command, ROOT)
    assert first.returncode == 0, first.stderr
    assert "326 rows = 320 labelled + 6 rejected + 0 reused" in first.stdout
    assert (output / "dt=2026-11-18" / "_SUCCESS").exists()
    again = run(command, ROOT)
    assert "326 rows = 0 labelled + 0 rejected + 326 reused" in again.stdout


def test_the_shown_demo_output_is_what_the_demo_prints() -> None:
    shown = re.findall(r"```text\n(.*?)```", README, flags=re.DOTALL)[0]
    assert "326 rows = 320 labelled + 6 rejected + 0 reused" in shown
    assert "accuracy" in shown


def test_make_test_runs_pytest() -> None:
    # Running it here would run this test again.
    plan = run("make -n test", ROOT)
    assert plan.returncode == 0, plan.stderr
    assert re.search(r"python -m pytest\b", plan.stdout)


@pytest.mark.ray
@pytest.mark.slow
def test_score_twice_then_from_python(folder_with_reviews: Path, local_ray: None) -> None:
    import ray

    # The first command starts a cluster of its own, as a newcomer's does; the others join this one.
    shared = ray.get_runtime_context().gcs_address
    done = run(SCORE, folder_with_reviews)
    assert done.returncode == 0, done.stderr
    assert "131 rows = 130 labelled + 1 rejected + 0 reused" in done.stdout
    assert (folder_with_reviews / "scored" / "_SUCCESS").exists()
    with_labels = run(SCORE_LABELS, folder_with_reviews, ray_address=shared)
    assert with_labels.returncode == 0, with_labels.stderr
    evaluated = run(EVALUATE, folder_with_reviews, ray_address=shared)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "weighted avg" in evaluated.stdout
    verified = run(VERIFY, folder_with_reviews)
    assert verified.returncode == 0, verified.stderr
    replayed = run(REPLAY, folder_with_reviews, ray_address=shared)
    assert replayed.returncode == 0, replayed.stderr
    assert "131 rows = 130 labelled + 1 rejected + 0 reused" in replayed.stdout
    runs = folder_with_reviews / "scored" / "_sentiment" / "runs"
    assert len(list(runs.glob("*/report.html"))) == len(list(runs.glob("*/run.json"))) == 3
    reported = run(REPORT, folder_with_reviews)
    assert reported.returncode == 0, reported.stderr
    page = Path(reported.stdout.removeprefix("report").strip())
    assert "130 labelled + 1 rejected + 0 reused" in page.read_text(encoding="utf-8")
    (folder_with_reviews / "from_readme.py").write_text(PYTHON[0])
    python = run(f"{sys.executable} from_readme.py", folder_with_reviews, ray_address=shared)
    assert python.returncode == 0, python.stderr
    assert python.stdout.strip().splitlines()[-1].startswith("0 {")


def test_finetune_reaches_the_data(tmp_path: Path) -> None:
    # The real training takes an hour: here the command gets as far as looking for its data.
    shutil.copytree(ROOT / "examples" / "builtin-model", tmp_path / "examples" / "builtin-model")
    done = run(FINETUNE, tmp_path)
    assert done.returncode == 2
    assert "train.parquet" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_is_there_once_the_environment_is_active(tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix)
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        ["bash", "-c", f"{ACTIVATE} && sentiment --version"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"sentiment {version('sentiment')}\n", done.stderr


@pytest.mark.slow
def test_the_wheel_brings_the_command_and_its_data(tmp_path: Path) -> None:
    made = run(f"make wheel VENV={sys.prefix}", ROOT)
    assert made.returncode == 0, made.stderr
    wheel = next((ROOT / "dist").glob("sentiment-*.whl"))
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "model/builtin/model.safetensors", "model/builtin/tokenizer.json", "model/presets.yaml",
        "engine/golden.txt", "settings/recipes.yaml", "report/page.html", "report/page.css",
        "py.typed",
    ):  # fmt: skip
        assert f"sentiment/{name}" in names
    target = tmp_path / "site"
    installed = run(f"python -m pip install --quiet --no-deps --target {target} {wheel}", tmp_path)
    assert installed.returncode == 0, installed.stderr
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import sentiment.cli; "
        f"assert sentiment.cli.__file__.startswith({str(target)!r}); "
        "sys.exit(sentiment.cli.main(['models']))"
    )
    shown = run(f'{sys.executable} -c "{code}"', tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "builtin" in shown.stdout
