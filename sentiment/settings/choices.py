"""The choices that settings and stages share. Without pydantic: task workers import them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

LongText = Literal["head", "head_tail", "windows"]


Decode = Literal["labels", "generate"]


def no_half(value: Any) -> Any:
    """Refuse 16-bit floats of the narrow kind."""
    if value in ("fp16", "float16", "half"):
        raise ValueError(f"--precision {value}: T5's activations overflow it; use bf16 or fp32")
    return value


Precision = Annotated[Literal["auto", "fp32", "bf16", "int8"], BeforeValidator(no_half)]


DeviceType = Literal["cpu", "cuda"]
