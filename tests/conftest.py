"""Fixtures of all tests: tiny models, made once, and a local Ray."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# An example has no time limit: machines are busy, and the first one imports what it needs.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="session", autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What runs remember between them stays out of the home of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the tokenizer files of 600 pieces."""
    import tiny_models  # and with it torch, which most tests do without

    folder = tmp_path_factory.mktemp("vocabulary")
    tiny_models.new_vocabulary(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of a T5 v1.0 (tied, ReLU) with random weights. Read only: copy to change it."""
    import tiny_models

    return tiny_models.save_model(
        tiny_models.tiny_v1_0(vocabulary), vocabulary, tmp_path_factory.mktemp("tiny_model")
    )


@pytest.fixture(scope="session")
def tiny_flan(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of a T5 v1.1 (untied, gated GELU) with random weights. Read only."""
    import tiny_models

    return tiny_models.save_model(
        tiny_models.tiny_v1_1(vocabulary), vocabulary, tmp_path_factory.mktemp("tiny_flan")
    )


@pytest.fixture(scope="session")
def tiny_mt5(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folder of an mT5 (untied, gated GELU) with random weights. Read only."""
    import tiny_models

    return tiny_models.save_model(
        tiny_models.tiny_mt5(vocabulary), vocabulary, tmp_path_factory.mktemp("tiny_mt5")
    )


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two CPUs that everything in this test session shares."""
    import ray

    with warnings.catch_warnings():
        # Ray announces a changed default for RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO on every start.
        warnings.simplefilter("ignore", FutureWarning)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.WARNING,
            # Ten by default: test_telemetry waits for one.
            _system_config={"metrics_report_interval_ms": 1000},
        )
    yield
    ray.shutdown()
