"""Types of settings that the stages use too. Task workers import them, so pydantic stays out."""

from __future__ import annotations

from typing import Literal

LongText = Literal["head", "head_tail", "windows"]
Decode = Literal["labels", "generate"]
Precision = Literal["auto", "fp32", "bf16", "int8"]
DeviceType = Literal["cpu", "cuda"]
