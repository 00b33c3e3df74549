"""`cluster.yaml` is a cluster file that Ray accepts, and it says what the README says of it.

Checked offline: Ray's schema and defaults only. Nothing here asks a cloud provider.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parent.parent


def read_config() -> dict[str, Any]:
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
    assert isinstance(config, dict)
    return config


@pytest.fixture
def config() -> dict[str, Any]:
    """The file as Ray sees it: its own defaults filled in."""
    return dict(prepare_config(read_config()))


def constrained_version(package: str) -> str:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(package)}==(\S+)$", constraints, re.MULTILINE)
    assert found, f"constraints.txt does not pin {package}"
    return found[1]


def test_ray_accepts_the_file(config: dict[str, Any]) -> None:
    validate_config(config)


def test_ray_would_refuse_an_unknown_field() -> None:
    """Guards the test above: the validation does look at what it is given."""
    config = read_config()
    config["available_node_types"]["gpu_worker"]["gpus"] = 1
    with pytest.raises(Exception, match="'gpus' was unexpected"):
        validate_config(prepare_config(config))


def test_the_head_scores_nothing(config: dict[str, Any]) -> None:
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "GPU" not in head["resources"]


def test_workers_cost_nothing_while_idle(config: dict[str, Any]) -> None:
    for name, node_type in config["available_node_types"].items():
        assert node_type["min_workers"] == 0, name
    assert 0 < config["idle_timeout_minutes"] <= 30


def test_a_worker_type_has_a_gpu_and_cpus_to_feed_it(config: dict[str, Any]) -> None:
    workers = {
        name: node_type
        for name, node_type in config["available_node_types"].items()
        if name != config["head_node_type"]
    }
    gpu_workers = [w for w in workers.values() if w["resources"].get("GPU", 0) >= 1]
    assert gpu_workers, f"no worker type with a GPU among {sorted(workers)}"
    for worker in gpu_workers:
        assert worker["resources"]["CPU"] >= 2, "reading and tokenising need CPUs beside the GPU"
        assert 1 <= worker["max_workers"] <= config["max_workers"]


def test_gpu_workers_can_build_the_launchers_of_kernels(config: dict[str, Any]) -> None:
    assert any("gcc" in command for command in config["worker_setup_commands"])


def test_images_hold_the_ray_we_pin(config: dict[str, Any]) -> None:
    tag = f":{constrained_version('ray')}-py311"
    assert config["docker"]["head_image"].endswith(tag)
    assert config["docker"]["worker_image"].endswith(f"{tag}-gpu")


def test_every_node_installs_the_project_with_the_pins(config: dict[str, Any]) -> None:
    [(mounted, folder)] = config["file_mounts"].items()
    name = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    install = f"-c {mounted}/constraints.txt {mounted}/{name}-*.whl"
    for role in ("head", "worker"):
        commands = config[f"{role}_setup_commands"]
        assert any(c.startswith("pip install") and install in c for c in commands), role
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"--wheel-dir {folder} " in makefile, "`make wheel` must fill the mounted folder"


def test_the_dashboard_is_not_open_to_the_network(config: dict[str, Any]) -> None:
    starts = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert starts
    assert all("--dashboard-host=127.0.0.1" in c for c in starts)
