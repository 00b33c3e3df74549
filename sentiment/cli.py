"""The command line: `sentiment score …` and the other commands of `COMMANDS`.

Exit codes: 0 done, 1 failed, 2 unusable input or settings, 3 the ledger does not balance, 4 too
many rows rejected, 5 the labels drifted, 130 interrupted.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final, Generic, TypeVar

from sentiment.errors import SentimentError
from sentiment.logs import LogFormat, configure_logging, json_is_requested, printable
from sentiment.settings.evaluate import EvaluateConfig
from sentiment.settings.finetune import FinetuneConfig
from sentiment.settings.flags import completion_script, suggestion
from sentiment.settings.jobs import (
    ModelsConfig,
    ReplayConfig,
    ReportConfig,
    ScoreConfig,
    VerifyConfig,
)
from sentiment.settings.load import JobConfig

Config = TypeVar("Config", bound=JobConfig)


@dataclass(frozen=True)
class Command(Generic[Config]):
    """A command of the command line.

    Attributes:
        settings: Its settings; the first line of their docstring describes the command.
        run: Its job, imported when it is called: --help and a mistyped option answer at once.
    """

    settings: type[Config]
    run: Callable[[Config], object]


def _score(config: ScoreConfig) -> object:
    from sentiment.scoring.job import score

    return score(config)


def _evaluate(config: EvaluateConfig) -> object:
    from sentiment.evaluation.job import evaluate

    return evaluate(config)


def _report(config: ReportConfig) -> object:
    from sentiment.report.job import report

    return report(config)


def _verify(config: VerifyConfig) -> object:
    from sentiment.verification.job import verify

    return verify(config)


def _replay(config: ReplayConfig) -> object:
    from sentiment.scoring.replay import replay

    return replay(config)


def _finetune(config: FinetuneConfig) -> object:
    from sentiment.training.job import finetune

    return finetune(config)


def _models(config: ModelsConfig) -> None:
    from sentiment.model.job import list_models

    list_models(config)


COMMANDS: Final[Mapping[str, Command[Any]]] = {
    "score": Command(ScoreConfig, _score),
    "evaluate": Command(EvaluateConfig, _evaluate),
    "report": Command(ReportConfig, _report),
    "verify": Command(VerifyConfig, _verify),
    "replay": Command(ReplayConfig, _replay),
    "finetune": Command(FinetuneConfig, _finetune),
    "models": Command(ModelsConfig, _models),
}

COMPLETION: Final = "completion"
SHELLS: Final = ("bash", "zsh", "tcsh")

_log = logging.getLogger(__name__)


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
    if words and words[0] == COMPLETION:
        return _print_completion(words[1:])
    if words and words[0] not in COMMANDS:
        near = suggestion(words[0], [*COMMANDS, COMPLETION])
        message = f"no such command{near}; `sentiment --help` lists them"
        return _report_failure(words[0], message, 2, "text")
    if not words:
        print(_usage(), file=sys.stderr)
        return 2
    return run_job(words[0], words[1:])


def _print_completion(words: Sequence[str]) -> int:
    """Print a completion script for the shell that is named."""
    if len(words) != 1 or words[0] not in SHELLS:
        return _report_failure(COMPLETION, f"name a shell: {', '.join(SHELLS)}", 2, "text")
    settings = {name: command.settings for name, command in COMMANDS.items()}
    print(completion_script(settings, words[0]))
    return 0


def run_job(command: str, arguments: Sequence[str] | None = None) -> int:
    """Run one command and turn its errors into a line and an exit code.

    Args:
        command: One of `COMMANDS`.
        arguments: Words after the command; those of the process by default.

    Returns:
        The exit code.
    """
    chosen = COMMANDS[command]
    words = list(sys.argv[1:] if arguments is None else arguments)
    log_format: LogFormat = "json" if json_is_requested(words) else "text"
    try:
        config = chosen.settings.load(words)
        log_format = getattr(config, "log_format", "text")
        _configure_logging(log_format, quiet=getattr(config, "quiet", False))
        chosen.run(config)
    except SentimentError as error:
        return _report_failure(command, str(error), error.exit_code, log_format)
    except KeyboardInterrupt:
        message = "interrupted; the same command goes on from here"
        return _report_failure(command, message, 130, log_format)
    return 0


def _report_failure(command: str, message: str, exit_code: int, log_format: LogFormat) -> int:
    """Print or log in one line why a command failed; return its exit code."""
    line = f"sentiment {command}: {message}"
    if log_format == "json":
        configure_logging("json", quiet=True)  # where the settings were not even understood
        _log.error("%s", line, extra={"fields": {"exit_code": exit_code}})
    else:
        print(printable(line), file=sys.stderr)
    return exit_code


def _configure_logging(log_format: LogFormat, *, quiet: bool) -> None:
    """Quieten libraries, then set up the log."""
    # Must be set before these libraries are imported.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    configure_logging(log_format, quiet=quiet)


def _usage() -> str:
    lines = ["usage: sentiment COMMAND [options]", ""]
    for name, command in COMMANDS.items():
        lines.append(f"  {name:<10} {(command.settings.__doc__ or '').splitlines()[0]}")
    lines.append(f"  {COMPLETION:<10} Print a completion script for {', '.join(SHELLS)}.")
    lines += ["", "`sentiment COMMAND --help` lists the settings of a command."]
    return "\n".join(lines)
