"""The rows of an evaluation whose labels were given."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentiment.errors import SourceError
from sentiment.evaluation.rows import given_rows
from sentiment.settings.jobs import EvaluateConfig
from sentiment.source import index
from sentiment.source.shards import Shard, ShardIndex


def test_storage_that_stops_answering_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.csv"
    source.write_text("label,said\npositive,positive\n")

    def fails(shard: Shard, text_column: str) -> ShardIndex:
        raise OSError(f"{shard.uri}: connection reset")

    monkeypatch.setattr(index, "index_shard", fails)
    config = EvaluateConfig(
        sources=[str(source)], output=str(tmp_path / "out"), prediction_column="said"
    )
    with pytest.raises(SourceError, match=r"stopped answering .*a\.csv: connection reset"):
        given_rows(config)
