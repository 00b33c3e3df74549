"""The hub as its client sees it: what is fetched, what is cached, and every refusal in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session, get_token
from model_hub import COMMIT, Hub, fill_cache, serve

from sentiment.errors import ModelError
from sentiment.model.find import find_model
from sentiment.model.hub import fetch, find_cached
from sentiment.model.locate import DIGESTED

NAME = "someone/reviews-t5"
LAYOUT = ("--model FOLDER", "config.json", "model.safetensors", "tokenizer.json or spiece.model")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, nobody logged in, and the network not forbidden."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "cache"


def listen_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does where the client is not imported yet."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix(constants.ENDPOINT)
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + template)


@pytest.fixture
def hub(cache: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as hub:
        listen_to(hub.url, monkeypatch)
        hub.models[NAME] = tiny_model
        yield hub


def refusal(name: str = NAME, revision: str | None = None) -> str:
    """What is told when a model cannot be had: one line that says what folder would do."""
    with pytest.raises(ModelError) as caught:
        find_model(name, revision=revision)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"--model {name}: ")
    for fact in LAYOUT:
        assert fact in line
    return line


def test_a_model_is_fetched_once(hub: Hub, cache: Path, tiny_model: Path) -> None:
    folder = fetch(NAME, None, DIGESTED)
    assert folder == cache / "models--someone--reviews-t5" / "snapshots" / COMMIT
    assert find_model(NAME).digest == find_model(str(tiny_model)).digest
    assert sorted(hub.fetched) == sorted(path.name for path in tiny_model.iterdir())


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_what_was_fetched_is_there_offline(
    hub: Hub, revision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model(NAME, revision=revision)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.tokens.clear()
    assert find_model(NAME, revision=revision) == model
    assert hub.tokens == []


def test_what_was_fetched_is_there_when_the_hub_is_down(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = find_model(NAME)
    listen_to("http://127.0.0.1:9", monkeypatch)
    assert find_model(NAME) == model


def test_only_what_is_cached_is_found_without_asking(hub: Hub) -> None:
    assert find_cached(NAME, None, DIGESTED) is None
    folder = fetch(NAME, None, DIGESTED)
    hub.tokens.clear()
    assert find_cached(NAME, None, DIGESTED) == folder
    assert find_cached(NAME, COMMIT, DIGESTED) == folder
    assert find_cached(NAME, "v2", DIGESTED) is None
    assert hub.tokens == []


def test_an_unknown_model(hub: Hub) -> None:
    line = refusal("someone/no-such-model")
    assert "the hub has no such model or keeps it private" in line
    assert "HF_TOKEN" in line


def test_an_unknown_revision(hub: Hub) -> None:
    assert "the hub has no revision v2 of it; check --revision" in refusal(revision="v2")


def test_a_gated_model(hub: Hub) -> None:
    hub.refusals[NAME] = (403, "GatedRepo")
    line = refusal()
    assert "accept them on its page, then set HF_TOKEN or run `hf auth login`" in line


def test_a_private_model_needs_the_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_ours"
    assert "for a private one set HF_TOKEN" in refusal()
    monkeypatch.setenv("HF_TOKEN", "hf_ours")
    assert find_model(NAME).name == NAME
    assert hub.tokens[-1] == "Bearer hf_ours"


def test_a_login_counts_as_a_token(hub: Hub) -> None:
    hub.token = "hf_login"
    Path(constants.HF_TOKEN_PATH).write_text("hf_login")
    assert get_token() == "hf_login"
    assert find_model(NAME).name == NAME


def test_a_wrong_token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    hub.refusals[NAME] = (401, "")
    line = refusal()
    assert "HF_TOKEN" in line
    assert "hf_expired" not in line


def test_a_hub_that_is_ill(hub: Hub) -> None:
    hub.refusals[NAME] = (500, "")
    assert "the hub did not give it (HfHubHTTPError)" in refusal()


def test_a_hub_out_of_reach(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listen_to("http://127.0.0.1:9", monkeypatch)
    line = refusal(revision="v2")
    assert f"not in the cache {cache} at revision v2" in line
    assert "the hub did not give it (ConnectError)" in line


def test_a_proxy_that_refuses(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client lets this error of its HTTP library through."""
    for name in ("all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", hub.url)  # which is no proxy
    listen_to("https://hub.invalid", monkeypatch)
    close_session()  # made anew with the proxy, and again without it
    try:
        assert "the hub did not give it (ProxyError)" in refusal()
    finally:
        close_session()


def test_offline_says_so(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"not in the cache {cache}, and HF_HUB_OFFLINE is set" in refusal()


def test_a_cache_without_weights_is_not_taken_for_a_model_of_pickles(
    cache: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other programs leave the tokenizer alone in the cache."""
    published = tmp_path / "published"
    shutil.copytree(tiny_model, published)
    (published / "model.safetensors").unlink()
    snapshot = fill_cache(cache, NAME, published)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    line = refusal()
    assert f"{snapshot}, has no weights, and HF_HUB_OFFLINE is set" in line
    assert "pickle" not in line


def test_an_interrupted_download_is_no_model_offline(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (fetch(NAME, None, DIGESTED) / "model.safetensors").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert f"files of it are missing in the cache {cache}" in refusal()
