"""The import layers that CONTRIBUTING.md describes, held by reading the source.

Nothing is imported: each file is parsed, so imports inside functions count as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "sentiment"

# The rooms, lowest first. A room imports only rooms of lower lines; rooms of one line do not import
# each other. A room is a module `sentiment/NAME.py` or a folder `sentiment/NAME/`, whose own files
# may import one another, though never in a circle.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "block", "digest", "logs", "texts"),
    ("settings", "storage", "cluster", "metrics", "t5"),
    ("source", "model"),
    ("output", "engine"),
    ("ledger", "monitor", "training"),
    ("report", "verification"),
    ("scoring",),
    ("evaluation",),
    ("cli",),
    ("__init__", "__main__"),  # the public names and `python -m sentiment`
    ("jobs",),  # jobs/*.py, outside the package
)

# What a room must not import although it is lower: the last sentence of each folder's paragraph.
MUST_NOT_IMPORT: Mapping[str, frozenset[str]] = {
    "t5": frozenset({"block", "digest", "logs"}),
    "model": frozenset({"block", "storage", "cluster"}),
    "engine": frozenset({"source", "storage", "cluster"}),
    "output": frozenset({"model", "t5", "settings", "cluster"}),
    "ledger": frozenset({"engine", "model", "t5", "cluster"}),
    "monitor": frozenset({"engine", "model", "t5", "source"}),
    "report": frozenset({"engine", "model", "t5", "cluster", "source"}),
    "training": frozenset({"ledger", "monitor"}),
    "verification": frozenset({"engine", "model", "t5", "cluster"}),
}

# Who may import the heavy libraries, at any depth of the file.
TORCH_ROOMS = frozenset({"t5", "model", "engine", "training"})
RAY_ROOMS = frozenset({"cluster", "monitor", "scoring", "training"})

# What other rooms may take from transformers: tokenisers and configurations need no torch.
TORCHLESS_TRANSFORMERS = re.compile(r"(Tokenizer(Fast|Base)?|Config|BatchEncoding)$")

# A job script parses, calls one function and exits.
JOBS_MAY_IMPORT = frozenset({"cli"})

MAX_ROOMS = 24

LAYER_OF = {room: layer for layer, rooms in enumerate(LAYERS) for room in rooms}


def source_files() -> list[Path]:
    return sorted([*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "jobs").glob("*.py")])


def room_of(path: Path) -> str:
    """Name the room of a file given relative to the repository root."""
    if path.parts[0] == "jobs":
        return "jobs"
    return path.parts[1].removesuffix(".py")


def absolute_name(node: ast.ImportFrom, path: Path) -> str:
    """Spell out the module that a `from … import` of the file at `path` names."""
    if node.level == 0:
        return node.module or ""
    folder = list(path.parts[:-1])
    base = folder[: len(folder) - (node.level - 1)]
    return ".".join([*base, *([node.module] if node.module else [])])


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """Yield (line, module, names) per import; names are empty for a plain `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ()
        elif isinstance(node, ast.ImportFrom):
            module = absolute_name(node, path)
            yield node.lineno, module, tuple(alias.name for alias in node.names)


def own_import_problem(room: str, module: str) -> str | None:
    """Say what is wrong with importing our own `module` from `room`; None when nothing is."""
    if module == PACKAGE:
        return f"imports the bare package; name the module, as in `from {PACKAGE}.errors import …`"
    target = module.split(".")[1]
    if target not in LAYER_OF:
        return f"imports `{module}`, a room that LAYERS does not list: add it to the layer list"
    if room == "jobs" and target not in JOBS_MAY_IMPORT:
        return f"is a job script and imports `{module}`; only {sorted(JOBS_MAY_IMPORT)} are for it"
    if target != room and LAYER_OF[target] >= LAYER_OF[room]:
        return f"imports `{module}`, which is not below `{room}` in LAYERS"
    if target in MUST_NOT_IMPORT.get(room, ()):
        return f"imports `{module}`, which `{room}` must not know"
    return None


def library_problem(room: str, module: str, names: tuple[str, ...]) -> str | None:
    """Say what is wrong with importing a library's `module` from `room`; None when nothing is."""
    library = module.split(".")[0]
    if library == "torch" and room not in TORCH_ROOMS:
        return f"imports `{module}`; torch is for {sorted(TORCH_ROOMS)} only"
    if library == "ray" and room not in RAY_ROOMS:
        return f"imports `{module}`; ray is for {sorted(RAY_ROOMS)} only"
    if library == "transformers" and room not in TORCH_ROOMS:
        if module == library and names and all(map(TORCHLESS_TRANSFORMERS.search, names)):
            return None
        return f"imports more of `{module}` than tokenisers and configurations"
    return None


def problems(path: Path, source: str) -> list[str]:
    """List every broken import rule of one file, its path given relative to the root."""
    room = room_of(path)
    if room not in LAYER_OF:
        return [f"{path}: `{room}` is in no layer: add it to the layer list LAYERS in this test"]
    found = []
    for line, module, names in imports(ast.parse(source), path):
        if module.split(".")[0] == PACKAGE:
            problem = own_import_problem(room, module)
        else:
            problem = library_problem(room, module, names)
        if problem:
            found.append(f"{path}:{line} {problem}")
    return found


FILES = [path.relative_to(ROOT) for path in source_files()]


def test_there_is_something_to_check() -> None:
    assert Path(PACKAGE, "errors.py") in FILES


def test_a_room_has_one_layer() -> None:
    listed = [room for rooms in LAYERS for room in rooms]
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_downward(path: Path) -> None:
    assert problems(path, (ROOT / path).read_text(encoding="utf-8")) == []


def circle(graph: Mapping[str, Set[str]]) -> list[str]:
    """A circle of imports as a list of modules, empty if there is none."""
    done: set[str] = set()

    def visit(module: str, trail: list[str]) -> list[str]:
        if module in trail:
            return [*trail[trail.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph.get(module, ())):
            if found := visit(target, [*trail, module]):
                return found
        done.add(module)
        return []

    for module in sorted(graph):
        if found := visit(module, []):
            return found
    return []


def module_graph(sources: Mapping[Path, str]) -> dict[str, set[str]]:
    """The modules of our own that each file imports; imports inside functions count as well."""
    names = {path: ".".join(path.with_suffix("").parts) for path in sources}
    modules = set(names.values())
    return {
        names[path]: {
            target
            for _, module, imported in imports(ast.parse(source), path)
            for target in [module, *(f"{module}.{name}" for name in imported)]
            if target in modules
        }
        for path, source in sources.items()
    }


def test_files_import_each_other_in_no_circle() -> None:
    sources = {path: (ROOT / path).read_text(encoding="utf-8") for path in FILES}
    graph = module_graph(sources)
    assert graph["sentiment.output.commit"] >= {"sentiment.output.folder", "sentiment.errors"}
    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    sources = {
        Path("sentiment/a.py"): "from sentiment.b import X",
        Path("sentiment/b.py"): "def f():\n    from sentiment.folder import c",
        Path("sentiment/folder/c.py"): "from ..a import Y",
        Path("sentiment/d.py"): "import sentiment.a",
    }
    a, b, c = "sentiment.a", "sentiment.b", "sentiment.folder.c"
    assert circle(module_graph(sources)) == [a, b, c, a]


def test_the_house_stays_small() -> None:
    rooms = {room_of(path) for path in FILES} - {"jobs"}
    assert len(rooms) <= MAX_ROOMS
    assert rooms == LAYER_OF.keys() - {"jobs"}


def test_a_folder_is_described_by_a_paragraph_and_nothing_else() -> None:
    for path in FILES:
        if path.name == "__init__.py" and len(path.parts) > 2:
            [only] = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
            assert isinstance(only, ast.Expr), path
            assert isinstance(only.value, ast.Constant), path
            assert len(str(only.value.value)) > 60, path


def test_contributing_shows_these_layers_and_rooms() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = re.search(r"## Import order\n\n```\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    lines = [tuple(re.findall(r"\w+", line)) for line in shown[1].splitlines()]
    assert [line for line in lines if line] == [*LAYERS]
    table = re.findall(r"^\| .* \| (`.*?`) \| .* \|$", text, re.MULTILINE)
    assert len(table) <= 16
    named = {name.rstrip("/") for cell in table for name in re.findall(r"`([\w/]+)`", cell)}
    assert named == LAYER_OF.keys() - {"__init__", "__main__"}


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("sentiment/errors.py", "from sentiment.cli import X", "not below `errors`"),
        ("sentiment/errors.py", "from .cli import X", "not below `errors`"),
        ("sentiment/cluster.py", "import sentiment.cli", "not below `cluster`"),
        ("sentiment/source/csv.py", "from ..cli import X", "not below `source`"),
        ("sentiment/cli.py", "def f():\n    from jobs import score\n    import sentiment", "bare"),
        ("sentiment/cli.py", "from sentiment import score", "bare package"),
        ("sentiment/cli.py", "from . import errors", "bare package"),
        ("sentiment/cli.py", "from sentiment.utils import X", "add it to the layer list"),
        ("sentiment/utils.py", "", "add it to the layer list"),
        ("sentiment/report/page.py", "def f():\n    import torch.nn", "torch is for"),
        ("sentiment/source.py", "from ray.data import Datasource", "ray is for"),
        ("sentiment/report/page.py", "import transformers", "more of `transformers`"),
        ("sentiment/report/page.py", "from transformers import T5Model", "more of `transformers`"),
        ("sentiment/report/page.py", "from transformers.models.t5 import T5Config", "more of"),
        ("sentiment/output/plan.py", "from sentiment.settings.jobs import X", "must not know"),
        ("sentiment/t5/linear.py", "from sentiment.block import ROW", "`t5` must not know"),
        ("jobs/score.py", "from sentiment.errors import X", "is a job script"),
    ],
)
def test_a_broken_rule_is_found(path: str, source: str, complaint: str) -> None:
    [problem] = problems(Path(path), source)
    assert problem.startswith(path)
    assert complaint in problem


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("sentiment/cluster.py", "import ray\nfrom sentiment.errors import X"),
        ("sentiment/source/csv.py", "from .listing import X\nfrom ..errors import Y"),
        ("sentiment/source/__init__.py", "from sentiment.source.csv import X"),
        ("sentiment/t5/network.py", "import torch\nfrom ..errors import X"),
        ("sentiment/report/page.py", "from transformers import AutoTokenizer, BatchEncoding"),
        ("sentiment/__init__.py", "from sentiment.errors import SentimentError"),
        ("sentiment/report/page.py", "from sentimental import json"),
        ("jobs/score.py", "from sentiment.cli import main"),
    ],
)
def test_a_kept_rule_is_not_reported(path: str, source: str) -> None:
    assert problems(Path(path), source) == []
