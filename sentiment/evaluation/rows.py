"""The rows of an evaluation as one table: true label, label, score, length, file and row.

They come from a scored output, or from sources that hold predicted labels already.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentiment.block import REASON, ROW
from sentiment.errors import SourceError
from sentiment.metrics.truth import TruthMap, classes_of, label_text
from sentiment.output.committed import read_committed
from sentiment.output.folder import Output
from sentiment.output.layout import added_columns
from sentiment.output.receipt import Footer
from sentiment.settings.evaluate import EvaluateConfig
from sentiment.source.cut import cut_into_units
from sentiment.source.index import index_shards
from sentiment.source.listing import list_shards
from sentiment.source.read import ShardReader
from sentiment.source.selection.partitions import partition_of, with_partition
from sentiment.source.settings import read_options, texts_of
from sentiment.source.shards import Unit
from sentiment.texts import TextColumns

# Rows read at a time where there is nothing to score.
_UNIT_ROWS = 65536

# What an evaluation knows of a row. `score`, `tokens` and `truncated` may be missing.
COLUMNS = ("truth", "label", "score", "tokens", "truncated", "partition", "file", "row", "text")


def scored_rows(output: Output, config: EvaluateConfig, truth: TruthMap) -> pd.DataFrame:
    """Return the rows of a scored output that belong to the sources of the evaluation.

    Args:
        truth: What values of the label column stand for.

    Returns:
        COLUMNS of every labelled row; `truth` is None where a row has no true label.
    """
    options = read_options(config)
    committed = read_committed(output, list_shards(config.sources, options).shards)
    footers = [footer for found in committed.footers.values() for footer in found]
    parts = [
        _of_output(output, footer, config)
        for footer in sorted(footers, key=lambda one: (one.source_file, one.first_row))
        if footer.labelled
    ]
    rows = pd.concat([pd.DataFrame(columns=["truth", "label"]), *parts], ignore_index=True)
    return _checked(_with_truth(rows, truth), config)


def given_rows(config: EvaluateConfig) -> pd.DataFrame:
    """Return the rows of sources that hold predicted labels. True labels are mapped to their words.

    Returns:
        COLUMNS of every row that has a label.

    Raises:
        SourceError: A column is missing, or scores are no probabilities.
    """
    assert config.prediction_column is not None
    options = replace(read_options(config), texts=TextColumns((config.prediction_column,)))
    shards = list_shards(config.sources, options).shards
    parts = []
    for index in index_shards(shards, options):
        units = cut_into_units(index, _UNIT_ROWS)
        if not units:
            continue
        assert index.columns is not None, "a shard that cannot be opened has no units"
        with ShardReader(index.shard, index.columns, options) as reader:
            parts += [_of_source(reader, unit, index.columns, config) for unit in units]
    rows = pd.concat([pd.DataFrame(columns=["truth", "label"]), *parts], ignore_index=True)
    given = {label_text(value): label for value, label in config.label_map.items()}
    rows["label"] = [given.get(text, text) for text in map(label_text, rows["label"])]
    rows = rows[rows["label"] != ""].reset_index(drop=True)
    labels = config.labels or sorted(set(rows["label"]))
    return _checked(_with_truth(rows, TruthMap(tuple(labels), config.label_map)), config)


def _with_truth(rows: pd.DataFrame, truth: TruthMap) -> pd.DataFrame:
    """Put labels in the place of the values of the label column; None where there is none."""
    translate = truth.among(rows["truth"].tolist())
    labels = [translate(value) for value in rows["truth"]]
    classes = classes_of({label for label in labels if label is not None}, truth.labels)
    # Of any other type, pandas would write NaN for None.
    known = [None if label is None else classes[label] for label in labels]
    return rows.assign(truth=pd.Series(known, rows.index, dtype=object))


def _of_output(output: Output, footer: Footer, config: EvaluateConfig) -> pd.DataFrame:
    label, score, _, tokens, truncated, file, row = added_columns(config.prefix).names
    assert config.label_column is not None
    with_text = config.show_text or config.parity_rows > 0
    wanted = [config.label_column, label, score, tokens, truncated, file, row]
    if with_text:
        wanted += config.text_columns
    with output.filesystem.open_input_file(output.path(footer.unit_id)) as source:
        parquet = pq.ParquetFile(source)
        table = parquet.read([name for name in wanted if name in parquet.schema_arrow.names])
    table = with_partition(table, footer.folder, [config.label_column])
    return pd.DataFrame(
        {
            "truth": _values(table, config.label_column),
            "label": table.column(label).to_pylist(),
            "score": table.column(score).to_numpy(),
            "tokens": table.column(tokens).to_numpy(),
            "truncated": table.column(truncated).to_numpy(zero_copy_only=False),
            "partition": footer.folder,
            "file": table.column(file).to_pylist(),
            "row": table.column(row).to_numpy(),
            "text": _texts(table, config) if with_text else None,
        }
    )


def _of_source(
    reader: ShardReader, unit: Unit, columns: pa.Schema, config: EvaluateConfig
) -> pd.DataFrame:
    assert config.prediction_column is not None
    assert config.label_column is not None
    keys = partition_of(unit.shard.folder)
    for name in (config.label_column, config.score_column):
        if name is not None and name not in columns.names and name not in keys:
            raise SourceError(
                f"{unit.shard.uri}: has no column {name!r}; it has {', '.join(columns.names[:12])}"
            )
    block = with_partition(reader.read(unit), unit.shard.folder, tuple(keys))
    readable = pc.is_null(block.column(REASON))
    block = block.filter(pc.and_(readable, pc.is_valid(block.column(config.prediction_column))))
    values = pd.DataFrame(
        {
            "truth": _values(block, config.label_column),
            "label": _values(block, config.prediction_column),
            "partition": unit.shard.folder,
            "file": unit.shard.uri,
            "row": block.column(ROW).to_numpy(),
            "text": None,
        }
    )
    if config.show_text and texts_of(config).of(block.column_names):
        values["text"] = _texts(block, config)
    if config.score_column is not None:
        values["score"] = _scores(block, unit, config.score_column)
    tokens, truncated = (f"{config.prefix}_{name}" for name in ("tokens", "truncated"))
    if tokens in block.column_names and truncated in block.column_names:
        values["tokens"] = block.column(tokens).to_numpy()
        values["truncated"] = block.column(truncated).to_numpy()
    return values


def _texts(table: pa.Table, config: EvaluateConfig) -> list[str | None]:
    columns = texts_of(config)
    if columns.template is None:
        # An output has the columns of all files: those that its own file has not are null.
        known = [table.column(name) for name in columns.names if name in table.column_names]
        return list(pc.coalesce(*known).to_pylist())
    return columns.read(table.column_names, lambda name: table.column(name).to_pylist())


def _values(table: pa.Table, name: str) -> list[Any]:
    if name not in table.column_names:
        return [None] * table.num_rows
    return list(table.column(name).to_pylist())


def _scores(block: pa.Table, unit: Unit, name: str) -> pd.Series[float]:
    scores = pd.to_numeric(pd.Series(block.column(name).to_pylist(), dtype=object), errors="coerce")
    bad = ~scores.between(0, 1)
    if bad.any():
        row = block.column(ROW).to_pylist()[int(bad.to_numpy().argmax())]
        raise SourceError(
            f"{unit.shard.uri} row {row}: {name!r} is no probability of its label; give the column "
            "with values from 0 to 1, or leave --score-column out"
        )
    return scores.astype(float)


def _checked(rows: pd.DataFrame, config: EvaluateConfig) -> pd.DataFrame:
    if not rows["truth"].notna().any():
        raise SourceError(
            f"--label-column {config.label_column}: no labelled row has a true label there"
        )
    return rows
