"""Models in every layout the hub serves them in score as transformers scores the same folder.

The table of docs/models.md names these layouts; `test_the_page_has_a_line_for_every_layout` holds
the two together. T5's true vocabulary is tried where SENTIMENT_TEST_T5_TOKENIZER names its folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import tiny_models
import torch
from huggingface_hub import constants
from model_hub import COMMIT, fill_cache
from safetensors.torch import load_file, save_file
from transformers import T5ForConditionalGeneration, T5Tokenizer

from sentiment.engine.generation import Generator
from sentiment.engine.labels import Engine
from sentiment.errors import ModelError
from sentiment.model.find import Model, find_model
from sentiment.model.load import load_network, load_t5

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
FAMILIES = ("tiny_v1_0", "tiny_v1_1")  # tied and ReLU, untied and gated GELU
TEXTS = tiny_models.example_texts()[:6]
ASKED: dict[str, Any] = {"labels": ["negative", "positive"], "max_source_tokens": 64}

Layout = Callable[[Path], None]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """Take the weights out of a folder, to be put back in another form."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    return tensors


def put(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def in_parts(folder: Path, whole: str, save: Callable[[dict[str, Any], Path], None]) -> None:
    tensors, (stem, ending) = tensors_of(folder), whole.split(".")
    names = sorted(tensors)
    weight_map = {name: f"{stem}-0000{n % 3 + 1}-of-00003.{ending}" for n, name in enumerate(names)}
    for part in set(weight_map.values()):
        save({name: tensors[name] for name in names if weight_map[name] == part}, folder / part)
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / f"{whole}.index.json").write_text(json.dumps(index))


def sharded_safetensors(folder: Path) -> None:
    in_parts(
        folder,
        "model.safetensors",
        lambda tensors, path: save_file(tensors, path, metadata={"format": "pt"}),
    )


def single_bin(folder: Path) -> None:
    torch.save(tensors_of(folder), folder / "pytorch_model.bin")


def sharded_bin(folder: Path) -> None:
    in_parts(folder, "pytorch_model.bin", torch.save)


def bin_of_torch_1_5(folder: Path) -> None:
    """A pickle that is no zip file, as torch wrote them until 1.6."""
    torch.save(
        tensors_of(folder), folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )


def embeddings_in_copies(folder: Path) -> None:
    """Checkpoints of transformers 2 to 4: the shared matrix under each of its names."""
    tensors = tensors_of(folder)
    for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        tensors[name] = tensors["shared.weight"].clone()
    torch.save(tensors, folder / "pytorch_model.bin")


def head_in_a_copy(folder: Path) -> None:
    """A tied head that was saved all the same; an untied one is in the file anyway."""
    tensors = tensors_of(folder)
    tensors.setdefault("lm_head.weight", tensors["shared.weight"].clone())
    put(folder, tensors)


def nothing_said_of_ties(folder: Path) -> None:
    """Tied or not, the logits are scaled then, as in T5 v1.0."""
    change_config(folder, drop=("tie_word_embeddings", "scale_decoder_outputs"))


def half_precision(folder: Path) -> None:
    put(folder, {name: tensor.half() for name, tensor in tensors_of(folder).items()})


def rows(count: int) -> Layout:
    """Embeddings of another size than the vocabulary, with `vocab_size` to match."""

    def resize(folder: Path) -> None:
        network = T5ForConditionalGeneration.from_pretrained(str(folder))
        tensors = tensors_of(folder)
        random = torch.Generator().manual_seed(1)
        for name in ("shared.weight", "lm_head.weight"):
            if name in tensors:
                more = torch.randn(count, network.config.d_model, generator=random) * 0.1
                more[: len(tensors[name])] = tensors[name]
                tensors[name] = more
        put(folder, tensors)
        change_config(folder, vocab_size=count)

    return resize


def change_config(folder: Path, drop: tuple[str, ...] = (), **values: Any) -> None:
    config = {**json.loads((folder / "config.json").read_text()), **values}
    (folder / "config.json").write_text(json.dumps({k: config[k] for k in config if k not in drop}))


# What transformers 5 writes and its forerunners did not.
NEW_KEYS = ("dtype", "dense_act_fn", "is_gated_act", "scale_decoder_outputs", "classifier_dropout")


def config_of_transformers_4(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    change_config(
        folder,
        drop=NEW_KEYS,
        tie_word_embeddings=bool(config["scale_decoder_outputs"]),
        torch_dtype="float32",
        transformers_version="4.28.1",
        n_positions=512,
        output_past=True,
        task_specific_params={
            "summarization": {"early_stopping": True, "num_beams": 4, "prefix": "summarize: "}
        },
    )


def config_of_transformers_2(folder: Path) -> None:
    """As T5 v1.0 was first published: no word on feed-forward, ties or distances."""
    config_of_transformers_4(folder)
    change_config(
        folder,
        drop=("feed_forward_proj", "tie_word_embeddings", "relative_attention_max_distance",
              "layer_norm_epsilon", "transformers_version", "use_cache"),
    )  # fmt: skip


def no_number_of_decoder_layers(folder: Path) -> None:
    """As many as the encoder has, where nothing is said."""
    config = json.loads((folder / "config.json").read_text())
    layers = range(config["num_decoder_layers"])
    tensors = tensors_of(folder)
    kept = {n: t for n, t in tensors.items() if not n.startswith("encoder.block.") or
            int(n.split(".")[2]) in layers}  # fmt: skip
    put(folder, kept)
    change_config(folder, drop=("num_decoder_layers",), num_layers=len(layers))


def feed_forward_alone(folder: Path) -> None:
    change_config(folder, drop=("dense_act_fn", "is_gated_act"))


def activation_of_its_own(folder: Path) -> None:
    """Where both are there, transformers believes this: gated-gelu is the exact GELU then."""
    change_config(folder, dense_act_fn="gelu")


def no_generation_config(folder: Path) -> None:
    (folder / "generation_config.json").unlink()


def spiece_only(folder: Path) -> None:
    for path in folder.glob("tokenizer*.json"):
        path.unlink()


def spiece_and_its_config(folder: Path) -> None:
    """As transformers 4 wrote a slow tokenizer."""
    (folder / "tokenizer.json").unlink()
    config = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "sp_model_kwargs": {},
              "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "legacy": True,
              "model_max_length": 512, "additional_special_tokens": []}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    special = {name: config[name] for name in ("eos_token", "unk_token", "pad_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


def tokenizer_json_only(folder: Path) -> None:
    (folder / "spiece.model").unlink()


def tokenizer_json_alone(folder: Path) -> None:
    tokenizer_json_only(folder)
    (folder / "tokenizer_config.json").unlink()


def both_tokenizers(folder: Path) -> None:
    assert (folder / "spiece.model").exists()
    assert (folder / "tokenizer.json").exists()


def as_saved(folder: Path) -> None:
    assert (folder / "model.safetensors").exists()


# By the names that docs/models.md gives them.
LAYOUTS: dict[str, Layout] = {
    "safetensors": as_saved,
    "sharded safetensors": sharded_safetensors,
    "pytorch_model.bin": single_bin,
    "sharded pytorch_model.bin": sharded_bin,
    "pytorch_model.bin of torch 1.5": bin_of_torch_1_5,
    "embeddings in copies": embeddings_in_copies,
    "lm_head.weight in the file": head_in_a_copy,
    "nothing said of ties": nothing_said_of_ties,
    "half precision": half_precision,
    "embeddings cut to the vocabulary": rows(600),
    "embeddings padded": rows(640),
    "config of transformers 4": config_of_transformers_4,
    "config of transformers 2": config_of_transformers_2,
    "no num_decoder_layers": no_number_of_decoder_layers,
    "feed_forward_proj alone": feed_forward_alone,
    "another dense_act_fn": activation_of_its_own,
    "no generation_config.json": no_generation_config,
    "spiece.model only": spiece_only,
    "spiece.model and tokenizer_config.json": spiece_and_its_config,
    "tokenizer.json and tokenizer_config.json": tokenizer_json_only,
    "tokenizer.json only": tokenizer_json_alone,
    "spiece.model and tokenizer.json": both_tokenizers,
}
OF_V1_0_ONLY = (  # there was no other T5 then
    "config of transformers 2",
)
MATRIX = [
    pytest.param(family, layout, id=f"{layout}-{family[5:]}")
    for layout in LAYOUTS
    for family in FAMILIES
    if family == "tiny_v1_0" or layout not in OF_V1_0_ONLY
]


@pytest.fixture(scope="module")
def saved(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of each family as transformers saves it, without `labels.json`."""
    folders = {}
    for family in FAMILIES:
        folder = tmp_path_factory.mktemp(family)
        network = getattr(tiny_models, family)(vocabulary)
        folders[family] = tiny_models.save_model(network, vocabulary, folder)
        (folder / "labels.json").unlink()
        shutil.copy(vocabulary / "spiece.model", folder)  # transformers 5 saves it no more
    return folders


def ids_of(model: Model) -> list[np.ndarray]:
    return [item.ids for item in model.tokeniser().encode(TEXTS)]


def our_log_probs(model: Model) -> np.ndarray:
    """Label log-probabilities of TEXTS: (texts, labels)."""
    labels = [model.tokeniser().label_ids(label) for label in model.labels]
    network = load_t5(model.folder, device=CPU, precision="fp32")
    return Engine(network, labels, batch_tokens=256).score(ids_of(model)).log_probs_NK


def their_log_probs(model: Model, folder: Path) -> np.ndarray:
    """The same by transformers, which is given the folder and finds everything in it itself."""
    network = T5ForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32).eval()
    tokenizer = T5Tokenizer.from_pretrained(str(folder), extra_ids=0)
    rows = [
        np.array(tokenizer(text, truncation=True, max_length=64).input_ids, np.int32)
        for text in TEXTS
    ]
    labels = [tuple(tokenizer(label, add_special_tokens=False).input_ids) for label in model.labels]
    return reference.label_log_probs(network, rows, labels)


@pytest.mark.parametrize(("family", "layout"), MATRIX)
def test_a_layout_scores_as_transformers_scores_it(
    family: str, layout: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved[family], tmp_path / "model"))
    LAYOUTS[layout](folder)
    model = find_model(str(folder), allow_pickle="bin" in layout or "copies" in layout, **ASKED)
    found = our_log_probs(model)
    assert len({tuple(row) for row in found.round(3).tolist()}) > 1, "the texts score alike"
    np.testing.assert_allclose(found, their_log_probs(model, folder), atol=2e-4)


@pytest.mark.parametrize(("family", "layout"), MATRIX)
def test_a_layout_generates_as_transformers_does(
    family: str, layout: str, saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved[family], tmp_path / "model"))
    LAYOUTS[layout](folder)
    model = find_model(str(folder), allow_pickle=True, **ASKED)
    ids = ids_of(model)[:2]
    generator = Generator(
        load_network(folder, device=CPU), precision="fp32", batch_tokens=64, max_new_tokens=4,
        num_beams=1,
    )  # fmt: skip
    answers, errors = generator.generate(ids)
    assert errors == {}
    network = T5ForConditionalGeneration.from_pretrained(str(folder), dtype=torch.float32).eval()
    for row, answer in zip(ids, answers, strict=True):
        theirs = network.generate(  # type: ignore[misc]
            torch.tensor(row[None].astype(np.int64)), max_new_tokens=4, do_sample=False, num_beams=1
        )
        assert answer == tuple(int(t) for t in theirs[0, 1:] if t != 0)


@pytest.mark.parametrize("layout", ["pytorch_model.bin", "sharded pytorch_model.bin"])
def test_pickles_need_the_flag(layout: str, saved: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved["tiny_v1_0"], tmp_path / "model"))
    LAYOUTS[layout](folder)
    with pytest.raises(ModelError, match="--allow-pickle-weights"):
        find_model(str(folder), **ASKED)


@pytest.mark.parametrize("revision", [None, "main", "v2", COMMIT, COMMIT[::-1]])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_hub_s_cache_is_a_layout_too(
    family: str, revision: str | None, saved: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Two revisions of a model, the other one of the other family."""
    [other] = set(FAMILIES) - {family}
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fill_cache(tmp_path, "someone/reviews", saved[family])
    fill_cache(tmp_path, "someone/reviews", saved[other], commit=COMMIT[::-1], branch="v2")
    expected = saved[other if revision in ("v2", COMMIT[::-1]) else family]
    model = find_model("someone/reviews", revision=revision, **ASKED)
    assert model.digest == find_model(str(expected), **ASKED).digest
    np.testing.assert_allclose(our_log_probs(model), their_log_probs(model, expected), atol=2e-4)


@pytest.fixture
def t5_vocabulary() -> Path:
    """Folder of the vocabulary that all published English T5s share."""
    folder = os.environ.get("SENTIMENT_TEST_T5_TOKENIZER")
    if not folder:
        pytest.skip("SENTIMENT_TEST_T5_TOKENIZER does not name a folder with T5's tokenizer")
    return Path(folder)


@pytest.mark.parametrize("count", [32_100, 32_128])
@pytest.mark.parametrize("kept", ["spiece.model", "tokenizer.json", "both"])
def test_the_vocabulary_of_published_models(
    t5_vocabulary: Path, count: int, kept: str, tmp_path: Path
) -> None:
    """32,100 pieces; published embeddings have as many rows, or 32,128."""
    network = tiny_models.untied_of(count)
    network.save_pretrained(str(tmp_path))
    for path in t5_vocabulary.iterdir():
        if kept in ("both", path.name) or path.name not in ("spiece.model", "tokenizer.json"):
            shutil.copy(path, tmp_path)
    model = find_model(str(tmp_path), labels=["0", "1"], max_source_tokens=64)
    tokeniser = model.tokeniser()
    assert [tokeniser.label_ids(label) for label in model.labels] == [(3, 632), (209,)]
    assert [len(tokeniser.label_ids(label)) for label in ("negative", "positive")] == [1, 1]
    whole = T5Tokenizer.from_pretrained(str(t5_vocabulary))
    rows = [
        np.array(whole(text, truncation=True, max_length=64).input_ids, np.int32) for text in TEXTS
    ]
    assert [row.tolist() for row in ids_of(model)] == [row.tolist() for row in rows]
    theirs = reference.label_log_probs(network, rows, [(3, 632), (209,)])
    np.testing.assert_allclose(our_log_probs(model), theirs, atol=2e-4)


def test_the_page_has_a_line_for_every_layout() -> None:
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    table = text.split("| layout |")[1].split("\n\n")[0]
    lines = re.findall(r"^\| (.*?) \|", table, flags=re.MULTILINE)
    assert [line.replace("`", "") for line in lines] == list(LAYOUTS)
