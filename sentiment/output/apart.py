"""Calls a function in a process of its own, which may crash without any harm to the caller."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

_SERVE = "from sentiment.output.apart import serve; serve()"


class ProcessDiedError(Exception):
    """The process ended before it had a result: a signal, or an exit from native code."""


def call_apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a new process and return its result.

    Args:
        function: A function of a module. It and its arguments must pickle.
        arguments: Its arguments.

    Raises:
        ProcessDiedError: The process died over it.
        Exception: Whatever the function raised.
    """
    # The same modules as here, also where Ray has added folders to the path of this process.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", _SERVE],
        input=pickle.dumps((function, arguments)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a crash may print what it was working on
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        raise ProcessDiedError(_how(done.returncode))
    succeeded, result = pickle.loads(done.stdout)
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]


def serve() -> None:
    """Do what `call_apart` asks for: the main function of the new process."""
    answer_to = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    function, arguments = pickle.load(sys.stdin.buffer)
    try:
        answer: tuple[bool, Any] = (True, function(*arguments))
    except Exception as error:
        answer = (False, error)
    with answer_to:
        pickle.dump(answer, answer_to)


def _how(returncode: int) -> str:
    if returncode < 0:
        return f"signal {signal.Signals(-returncode).name}"
    return f"exit status {returncode}"
