"""The device to compute on, its precision, and how failures of a device are recognised."""

from __future__ import annotations

import os
import resource

import torch

from sentiment.errors import DeviceError
from sentiment.settings.choices import DeviceType, Precision
from sentiment.t5.linear import ResolvedPrecision


def default_device() -> torch.device:
    """Return the GPU of this process, or the CPU if it has none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def usable_device(device_type: DeviceType) -> torch.device:
    """Return the device of this kind, after a check that torch can use it.

    Raises:
        DeviceError: A GPU is promised that torch cannot use; the CPU in its place would be a
            hundred times slower, and nobody would know why.
    """
    if device_type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"the cluster promises a GPU that torch {torch.__version__} cannot use here; install a "
            "torch built for it on every node, or score on CPUs with --gpus-per-actor 0"
        )
    return torch.device(device_type)


def resolve_precision(precision: Precision, device_type: str) -> ResolvedPrecision:
    """Return the precision to use: `auto` is bf16 where the processor multiplies it natively.

    Args:
        precision: The setting.
        device_type: `cuda` or `cpu`.
    """
    if precision != "auto":
        return precision
    if device_type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def default_batch_tokens(device_type: str) -> int:
    """Return the token budget of a batch if the settings give none."""
    return 65536 if device_type == "cuda" else 4096


def device_faults() -> tuple[type[Exception], ...]:
    """Return the errors after which a GPU is unusable in this process. torch has a class for them
    since 2.8.
    """
    fault = getattr(torch, "AcceleratorError", None)
    return () if fault is None else (fault,)


def device_error(fault: Exception) -> DeviceError:
    """Return the error to raise for such a fault."""
    return DeviceError(
        f"the GPU failed ({type(fault).__name__}); check the node it is on, then run the same "
        "command again: committed units are kept"
    )


def limit_threads(threads: int) -> None:
    """Limit torch to the threads that this process may use.

    Ray sets OMP_NUM_THREADS for whole CPUs only, and torch reads it once; several actors on a
    machine would otherwise each take every core.
    """
    torch.set_num_threads(max(1, min(threads, os.cpu_count() or 1)))


def processor_name(device: torch.device) -> str:
    """Return a name for what decides rounding: the GPU, or the instruction sets of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    amx = torch.cpu._is_amx_tile_supported()
    return f"{torch.backends.cpu.get_cpu_capability()}{' AMX' if amx else ''}"


def local_gpus() -> int:
    """Return the number of GPUs of this machine."""
    return torch.cuda.device_count()


def device_name(device: torch.device, threads: int) -> str:
    """Return the name of the GPU, or the number of CPU threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {threads} threads" if threads > 1 else "CPU, one thread"


def peak_memory_mib(device: torch.device) -> int:
    """Return the highest memory use of this process so far: of the GPU if there is one."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)  # Linux counts KiB
