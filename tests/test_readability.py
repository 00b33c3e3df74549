"""Sizes that keep a file readable, and one rule of naming."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAX_MODULE_LINES = 350
MAX_JOB_LINES = 40
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 7

# A function with more parameters has a comment with this word in it, above or in its signature.
REASON = "parameters"

FILES = sorted(
    path.relative_to(ROOT)
    for path in [*(ROOT / "sentiment").rglob("*.py"), *(ROOT / "jobs").glob("*.py")]
)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Number of parameters, `self` and `cls` aside."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    names += [one.arg for one in (given.vararg, given.kwarg) if one is not None]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def long_functions(source: str) -> list[str]:
    return [
        function.name
        for function in functions(ast.parse(source))
        if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
    ]


def wide_functions(source: str) -> list[str]:
    """Functions with many parameters and no comment that says why."""
    lines = source.splitlines()
    found = []
    for function in functions(ast.parse(source)):
        if parameters(function) <= MAX_PARAMETERS:
            continue
        first = function.lineno - 1 - len(function.decorator_list)
        while first > 0 and lines[first - 1].lstrip().startswith("#"):
            first -= 1
        beside = lines[first : function.body[0].lineno]
        if not any("#" in line and REASON in line.partition("#")[2] for line in beside):
            found.append(function.name)
    return found


def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=str)
def test_modules_stay_short(path: Path) -> None:
    limit = MAX_JOB_LINES if path.parts[0] == "jobs" else MAX_MODULE_LINES
    lines = len(read(path).splitlines())
    assert lines <= limit, f"{path} has {lines} lines, the limit is {limit}: split it by nouns"


@pytest.mark.parametrize("path", FILES, ids=str)
def test_functions_stay_short(path: Path) -> None:
    assert long_functions(read(path)) == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_many_parameters_have_a_reason_beside_them(path: Path) -> None:
    assert wide_functions(read(path)) == []


def test_no_module_for_leftovers() -> None:
    leftovers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    found = [str(path) for path in FILES if path.name in leftovers]
    assert found == [], "a helper lives with its caller or earns a noun"


def test_the_limits_find_what_exceeds_them() -> None:
    assert long_functions("def f():\n" + "    pass\n" * 60) == ["f"]
    assert long_functions("def f():\n" + "    pass\n" * 59) == []
    names = "a, b, c, d, e, f, g, h"
    assert wide_functions(f"def wide({names}):\n    pass") == ["wide"]
    assert wide_functions(f"class C:\n    def wide(self, {names}):\n        pass") == ["wide"]
    assert wide_functions(f"class C:\n    def all_right(self, {names[:-3]}):\n        pass") == []
    assert wide_functions(f"# So many parameters: ...\n@jit\ndef wide({names}):\n    pass") == []
