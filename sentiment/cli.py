"""The command line: `sentiment score …` and the other commands of `_JOBS`.

Takes arguments, calls one function, gives an exit code: 0 done, 1 failed, 2 unusable input or
settings, 3 the ledger does not balance, 4 too many rows rejected, 5 the labels drifted, 130
interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from sentiment.config import (
    EvaluateConfig,
    ModelsConfig,
    ReplayConfig,
    ReportConfig,
    ScoreConfig,
    VerifyConfig,
)
from sentiment.errors import SentimentError
from sentiment.finetune.config import FinetuneConfig
from sentiment.settings import JobConfig

# Command, its configuration, and where its job lives: imported when it is asked for, so that
# --help and a mistyped option answer at once.
_JOBS: dict[str, tuple[type[JobConfig], str, str]] = {
    "score": (ScoreConfig, "sentiment.run", "score"),
    "evaluate": (EvaluateConfig, "sentiment.evaluate.job", "evaluate"),
    "report": (ReportConfig, "sentiment.report.job", "report"),
    "verify": (VerifyConfig, "sentiment.verify.job", "verify"),
    "replay": (ReplayConfig, "sentiment.replay", "replay"),
    "finetune": (FinetuneConfig, "sentiment.finetune.job", "finetune"),
    "models": (ModelsConfig, "sentiment.models", "list_models"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words after the program name; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words and words[0] == "--version":
        print(f"sentiment {version('sentiment')}")
        return 0
    if not words or words[0] not in _JOBS:
        print(_usage(), file=sys.stderr)
        return 2
    return run_job(words[0], words[1:])


def run_job(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run one command and turn its errors into a line and an exit code.

    Args:
        command: One of `_JOBS`.
        arguments: Words after the command; those of the process by default.

    Returns:
        The exit code.
    """
    settings, module, function = _JOBS[command]
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        config = settings.load(words)
        _configure_logging(quiet=getattr(config, "quiet", False))
        job: Callable[[JobConfig], object] = getattr(import_module(module), function)
        job(config)
    except SentimentError as error:
        print(f"sentiment {command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            f"sentiment {command}: interrupted; the same command goes on from here",
            file=sys.stderr,
        )
        return 130
    return 0


def _configure_logging(*, quiet: bool) -> None:
    """A line per unit in job logs; on a terminal, where the bar tells the same, only warnings."""
    # Must be set before these libraries are imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    shown = logging.WARNING if quiet or sys.stderr.isatty() else logging.INFO
    logging.getLogger("sentiment").setLevel(shown)


def _usage() -> str:
    lines = ["usage: sentiment COMMAND …", ""]
    for name, (settings, _, _) in _JOBS.items():
        lines.append(f"  {name:<10} {(settings.__doc__ or '').splitlines()[0]}")
    lines += ["", "`sentiment COMMAND --help` lists the settings of a command."]
    return "\n".join(lines)
