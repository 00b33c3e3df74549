"""What a figure was measured on: processor, what it multiplies natively, versions, date."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

# Instructions that decide which precision is fast, as Linux spells them.
MATRIX_FLAGS = ("avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


def machine(threads: int, packages: set[str]) -> dict[str, Any]:
    """Describe this machine and the libraries used.

    Args:
        packages: Distributions whose versions matter.
    """
    cpuinfo = Path("/proc/cpuinfo")
    model, flags = read_cpuinfo(cpuinfo.read_text() if cpuinfo.exists() else "")
    return {
        "processor": model or platform.processor() or platform.machine(),
        "matrix_flags": flags,
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in sorted(packages)},
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def described(where: dict[str, Any]) -> str:
    """What `machine` gives, on one line."""
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    gpu = f"{where['gpu']}, " if where["gpu"] else ""
    return (
        f"{gpu}{where['threads']} of {where['cores']} cores, {where['processor']} "
        f"({' '.join(where['matrix_flags'])}), {where['date']}, {versions}"
    )


def read_cpuinfo(text: str) -> tuple[str, list[str]]:
    """Model name and those of MATRIX_FLAGS that the first processor has."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    flags = set(values.get("flags", "").split())
    return values.get("model name", ""), [flag for flag in MATRIX_FLAGS if flag in flags]
