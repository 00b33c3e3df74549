"""What training ran on and what it took: the device's name and its peak memory.

Knows no network and no data.
"""

from __future__ import annotations

import resource

import torch


def device_name(device: torch.device, threads: int) -> str:
    """The GPU, or how many threads of the CPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {threads} threads" if threads > 1 else "CPU, one thread"


def peak_memory_mib(device: torch.device) -> int:
    """Highest memory of this worker since it started: the GPU's, or of the whole process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device) / 2**20)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)  # Linux counts KiB
