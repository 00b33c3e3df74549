"""The page "From zero to a nightly job": its commands run, one after another, in a copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from markdown_commands import blocks_to_run, run

from sentiment import errors

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "nightly-job.md").read_text(encoding="utf-8")


@pytest.mark.ray
@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(tmp_path: Path, local_ray: None) -> None:
    import ray

    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shared = ray.get_runtime_context().gcs_address
    shown = []
    for block in blocks_to_run(PAGE):
        done = run(block, tmp_path, ray_address=shared)
        assert done.returncode == 0, block + done.stderr
        shown.append(done.stdout + done.stderr)
    scored, looked_at, evaluated, nightly, replayed, checked = shown
    assert "326 rows = 320 labelled + 6 rejected + 0 reused" in scored
    assert "malformed_record" in looked_at
    assert "weighted avg" in evaluated
    assert (tmp_path / "calibration.json").exists()
    assert '"run_id"' in nightly
    assert "326 rows = " in replayed
    assert "report.html" in checked


def test_the_page_has_every_exit_code() -> None:
    codes = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.SentimentError)
    }
    for code in {0, *codes, 130}:
        assert f"\n| {code} | " in PAGE, code
