"""The files that code hosts and tools read agree with the project."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
WORKFLOW = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")


def constraint(package: str) -> str:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(.*)$", text, flags=re.MULTILINE | re.IGNORECASE)
    assert found is not None, package
    return found[1]


def test_the_workflow_calls_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands = [
        step["run"]
        for job in yaml.safe_load(WORKFLOW)["jobs"].values()
        for step in job["steps"]
        if "run" in step
    ]
    targets = {command.split()[1] for command in commands}
    assert targets == {"setup", "check", "test", "docs"}
    assert all(command.startswith("make ") for command in commands)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_workflow_runs_every_python_that_the_package_names() -> None:
    matrix = yaml.safe_load(WORKFLOW)["jobs"]["test"]["strategy"]["matrix"]["python"]
    named = [
        line.rpartition(" ")[2]
        for line in PROJECT["classifiers"]
        if re.search(r"Python :: 3\.\d+$", line)
    ]
    assert matrix == named == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_the_workflow_may_only_read() -> None:
    assert yaml.safe_load(WORKFLOW)["permissions"] == {"contents": "read"}


def test_pre_commit_has_the_ruff_of_the_constraints() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    revisions = {repo["repo"].rpartition("/")[2]: repo["rev"] for repo in config["repos"]}
    assert revisions["ruff-pre-commit"] == f"v{constraint('ruff')}"


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_every_direct_dependency_is_pinned() -> None:
    groups = PROJECT["optional-dependencies"]
    for line in [*PROJECT["dependencies"], *groups["dev"], *groups["docs"]]:
        name = re.match(r"[\w.-]+", line)
        assert name is not None
        if name[0] != "sentiment":
            constraint(name[0])


def test_the_issue_forms_have_what_a_form_needs() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
    assert [form.stem for form in forms] == ["bug", "feature"]
    for form in forms:
        values = yaml.safe_load(form.read_text(encoding="utf-8"))
        assert values["name"]
        assert values["description"]
        asked = [part for part in values["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in asked}) == len(asked) > 0
        assert all(part["attributes"]["label"] for part in asked)
