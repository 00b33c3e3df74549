"""The command `sentiment evaluate`: from a labelled source to figures, and to a calibration.

It writes:

    OUTPUT/scored/              what `sentiment score` writes, unless the labels were given
    OUTPUT/evaluation.json      every figure
    OUTPUT/evaluation.txt       the classification report in the form that model cards print
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.text import Text

from sentiment.errors import ConfigError, OutputError, RejectedRowsError
from sentiment.evaluation.figures import figures, mistakes, report_text
from sentiment.evaluation.parity import compare_decoding
from sentiment.evaluation.rows import given_rows, scored_rows
from sentiment.ledger.summary import RunSummary
from sentiment.metrics.calibration import SCORE_SETTINGS, Calibration, fit_calibration
from sentiment.metrics.truth import truth_map
from sentiment.model.readme import with_evaluation
from sentiment.output.folder import Output
from sentiment.scoring.job import score
from sentiment.scoring.setup import configured_model
from sentiment.settings.evaluate import EvaluateConfig
from sentiment.settings.jobs import ScoreConfig, ScoringSettings

_SCORED_FOLDER = "scored"


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation; `evaluation.json` holds the same.

    Attributes:
        page: The page of the run that scored the rows; None where labels were given.
        model: Name, digest and precision of the model; None where labels were given.
        figures: See `figures.figures`.
        mistakes: The wrong labels with the highest scores, by file and row.
        parity: See `parity.compare_decoding`; None unless asked for.
        calibration: The temperature fitted on these rows, if one was asked for.
    """

    output: str
    finished_at: str
    sources: list[str]
    page: str | None
    model: dict[str, Any] | None
    figures: dict[str, Any]
    mistakes: list[dict[str, Any]]
    parity: dict[str, Any] | None = None
    calibration: Calibration | None = None

    @property
    def accuracy(self) -> float:
        """Share of correct labels among the rows with a true label."""
        return float(self.figures["report"]["accuracy"])

    def to_json(self) -> str:
        """The content of `evaluation.json`."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"


def evaluate(config: EvaluateConfig) -> Evaluation:
    """Report how right the labels of a labelled source are.

    Scores the sources into `OUTPUT/scored` first, as `sentiment score` does, or takes the labels
    they hold in `prediction_column`.

    Raises:
        SourceError: Nothing to read, a column is missing, or no row has a true label.
        ModelError: The model cannot be used, or the rows do not tell a temperature.
        OutputError: A file cannot be written.
        ConfigError: `update_card` for a model that is no folder.
        RejectedRowsError: More rows were rejected than `max_rejected` allows; the others are
            evaluated.
        SentimentError: As `scoring.job.score` does.
    """
    if config.update_card and not Path(config.model).expanduser().is_dir():
        raise ConfigError(f"--update-card: needs a model in a folder; {config.model!r} is none")
    output = Output.open(config.output)
    model: dict[str, Any] | None = None
    problem: RejectedRowsError | None = None
    page: str | None = None
    if config.prediction_column is None:
        problem, summary = _score(config)
        model = {**summary.run["model"], "precision": summary.run["precision"]}
        page = summary.page
        scored = Output.open(f"{config.output.rstrip('/')}/{_SCORED_FOLDER}")
        rows = scored_rows(scored, config, truth_map(model["meanings"], config.label_map))
    else:
        rows = given_rows(config)
    evaluation = Evaluation(
        output=config.output,
        finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        sources=list(config.sources),
        page=page,
        model=model,
        figures=figures(
            rows, positive=config.positive_label, bootstrap=config.bootstrap, seed=config.seed
        ),
        mistakes=mistakes(rows if config.show_text else rows.drop(columns="text"), config.mistakes),
        parity=_parity(rows, config, model),
        calibration=_fitted(rows, config, model),
    )
    output.write("evaluation.json", evaluation.to_json().encode())
    output.write("evaluation.txt", report_text(evaluation.figures["report"]).encode())
    if config.update_card:
        _update_card(config, evaluation)
    if not config.quiet:
        print_evaluation(evaluation)
    if problem is not None:
        raise problem
    return evaluation


def print_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print the classification report and the figures beside it."""
    console = console or Console()
    lines = [report_text(evaluation.figures["report"])]
    intervals = evaluation.figures["intervals"] or {}
    for name, (low, high) in intervals.items():
        lines.append(f"{name.replace('_', ' '):<24}95 % interval {low:.4f} to {high:.4f}")
    ranking = evaluation.figures["ranking"] or {}
    for name in ("roc_auc", "average_precision", "log_loss", "brier"):
        if name in ranking:
            lines.append(f"{name.replace('_', ' '):<24}{ranking[name]:.4f}")
    if evaluation.figures["calibration"]:
        error = evaluation.figures["calibration"]["expected_calibration_error"]
        lines.append(f"{'calibration error':<24}{error:.4f}")
    for one in evaluation.figures["by_length"] or []:
        name = f"{one['slice']} tokens"
        lines.append(f"{name:<24}{one['accuracy']:.4f} of {one['rows']:,}")
    if evaluation.parity:
        lines += _parity_lines(evaluation.parity)
    if evaluation.calibration:
        fitted = evaluation.calibration
        lines.append(
            f"temperature {fitted.temperature:.3f}: calibration error {fitted.ece_before:.4f} "
            f"before, {fitted.ece_after:.4f} after, on {fitted.held_out_rows:,} rows it was not "
            "fitted on"
        )
    if evaluation.page:
        lines.append(f"report      {evaluation.page}")
    lines.append(f"evaluation  {evaluation.output.rstrip('/')}/evaluation.json")
    console.print(Text("\n".join(lines)), soft_wrap=True)


def _parity_lines(parity: dict[str, Any]) -> list[str]:
    lines = [
        f"on {parity['rows']:,} of these rows: loss {parity['loss'] or float('nan'):.4f}, "
        f"gen len {parity['gen_len']:.4f}",
        f"{'labels scored':<24}{parity['labels']['accuracy']:.4f}",
    ]
    for name in ("greedy", "beams"):
        one = parity[name]
        lines.append(
            f"{name:<24}{one['accuracy']:.4f}, {one['agreement']:.2%} as scored, "
            f"{one['off_label']:.2%} no label"
        )
    return lines


def _score(config: EvaluateConfig) -> tuple[RejectedRowsError | None, RunSummary]:
    """Score the sources. Return an error if too many rows were rejected, and the summary."""
    values = config.model_dump(include=set(ScoringSettings.model_fields) - {"config"})
    values |= {
        "output": f"{config.output.rstrip('/')}/{_SCORED_FOLDER}",
        # What is measured is tonight's model, not whatever was measured here before.
        "on_change": "rescore",
        "drift_runs": 0,
        "quiet": True,
        # Above the share of any source: what to do with rejects is decided after the figures.
        "max_rejected": 1.0,
    }
    if config.fit_calibration:
        values["calibration"] = "none"
    summary = score(ScoreConfig(**values))
    rejected = sum(summary.rejected.values())
    if rejected <= config.max_rejected * summary.rows:
        return None, summary
    problem = RejectedRowsError(
        f"{rejected:,} of {summary.rows:,} rows were rejected (--max-rejected is "
        f"{config.max_rejected:.2%}); the figures are about the others"
    )
    return problem, summary


def _parity(
    rows: pd.DataFrame, config: EvaluateConfig, model: dict[str, Any] | None
) -> dict[str, Any] | None:
    if not config.parity_rows:
        return None
    assert model is not None, "the settings refuse to generate without a model"
    known = rows[rows["truth"].notna()]
    some = known.sample(min(config.parity_rows, len(known)), random_state=config.seed)
    return compare_decoding(
        configured_model(config), some["text"].tolist(), some["truth"].tolist(), model["precision"]
    )


def _update_card(config: EvaluateConfig, evaluation: Evaluation) -> None:
    folder = Path(config.model).expanduser().resolve()
    path = folder / "README.md"
    try:
        card = with_evaluation(
            path.read_text(encoding="utf-8") if path.exists() else "",
            name=folder.name,
            sources=config.sources,
            date=evaluation.finished_at[:10],
            report=evaluation.figures["report"],
        )
    except (OSError, ValueError) as error:
        raise OutputError(
            f"--update-card: {path} cannot be updated ({type(error).__name__}); "
            "the figures are in evaluation.json"
        ) from error
    Output.open(str(folder)).write(path.name, card.encode())


def _fitted(
    rows: pd.DataFrame, config: EvaluateConfig, model: dict[str, Any] | None
) -> Calibration | None:
    if config.fit_calibration is None:
        return None
    assert model is not None, "the settings refuse to fit scores of unknown origin"
    known = rows[rows["truth"].notna()]
    fitted = fit_calibration(
        known["score"].to_numpy(),
        (known["truth"] == known["label"]).to_numpy(),
        model_digest=model["digest"],
        seed=config.seed,
        fitted_for={name: model[name] for name in SCORE_SETTINGS},
    )
    try:
        Path(config.fit_calibration).write_text(fitted.to_json(), encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"--fit-calibration {config.fit_calibration}: cannot be written ({error.strerror})"
        ) from error
    return fitted
