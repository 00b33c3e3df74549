"""Loading the weights of a model folder into a network: our own T5, or that of transformers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from sentiment.errors import ModelError
from sentiment.model.checkpoint import read_json, read_tensors

if TYPE_CHECKING:
    import torch
    from transformers import T5ForConditionalGeneration

    from sentiment.t5.linear import ResolvedPrecision
    from sentiment.t5.network import T5


def load_t5(folder: Path, *, device: torch.device, precision: ResolvedPrecision) -> T5:
    """Load the T5 of a model folder for scoring, without building transformers' own model.

    Args:
        folder: Transformers layout, as `find_model` accepted it; weights whole or in parts.
        device: Where the weights go.
        precision: Of the matrix products.

    Raises:
        ModelError: Missing, truncated or mismatching weights, or a precision this device lacks.
    """
    from sentiment.t5.network import T5
    from sentiment.t5.shape import T5Shape

    config = read_json(folder / "config.json")
    try:
        tensors = read_tensors(folder)
    except Exception as error:  # safetensors, pickle and file errors share no base class
        raise _not_loadable(folder, error) from error
    try:
        return T5(T5Shape.from_config(config), tensors, precision=precision, device=device)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def load_network(
    folder: Path, *, device: torch.device, dtype: Literal["fp32", "bf16"] = "fp32"
) -> T5ForConditionalGeneration:
    """Load a model folder into transformers' own T5, to generate or to train with.

    transformers gets configuration and tensors, never the folder: there it would look for adapters,
    pickles and files that the configuration names, none of which are in the digest.

    Args:
        folder: Transformers layout, as `find_model` accepted it.
        device: Where the weights go.
        dtype: How the weights are stored in memory.

    Raises:
        ModelError: Missing, truncated or mismatching weights.
    """
    import torch
    from transformers import (
        GenerationConfig,
        MT5ForConditionalGeneration,
        T5ForConditionalGeneration,
    )

    config, generation = read_json(folder / "config.json"), folder / "generation_config.json"
    kind: Any = T5ForConditionalGeneration
    if config.get("model_type") == "mt5":
        kind = MT5ForConditionalGeneration  # which does not scale the decoder's output
    loaded: Any
    try:
        with _quiet_transformers():
            loaded = kind.from_pretrained(
                None,
                config=kind.config_class.from_dict(config),
                generation_config=GenerationConfig.from_dict(read_json(generation))
                if generation.exists()
                else GenerationConfig.from_model_config(config),
                state_dict=read_tensors(folder),
                dtype=torch.bfloat16 if dtype == "bf16" else torch.float32,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # safetensors, pickle and shape errors share no base class
        raise _not_loadable(folder, error) from error
    network, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{folder}: {len(missing)} weights are missing, first {missing[0]}")
    return cast("T5ForConditionalGeneration", network.eval().to(device))


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Suppress progress bars and advice of transformers while a model is loaded.

    Problems reach the user as a `ModelError`.
    """
    from transformers.utils import logging as hf

    bars, level = hf.is_progress_bar_enabled(), hf.get_verbosity()
    hf.disable_progress_bar()
    hf.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hf.set_verbosity(level)
        if bars:
            hf.enable_progress_bar()


def _not_loadable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{folder}: the weights cannot be loaded ({type(error).__name__}: {_first_line(error)})"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200]
