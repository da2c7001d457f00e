"""Which processor this is: its numbers differ from another's in the last digits."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
FIELDS = ("cpu family", "model")  # of x86, where many have one name


def processor(cpuinfo: Path = CPUINFO) -> str:
    """Its name, where known also family and model, and the instructions PyTorch uses.

    As "AMD EPYC, cpu family 26, model 2, AVX512".
    """
    known = _first_core(cpuinfo)
    name = known.get("model name") or platform.processor() or platform.machine()
    details = [f"{field} {known[field]}" for field in FIELDS if field in known]
    return ", ".join([name, *details, torch.backends.cpu.get_cpu_capability()])


def _first_core(cpuinfo: Path) -> dict[str, str]:
    """What Linux tells of it; empty elsewhere."""
    try:
        lines = cpuinfo.read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {field.strip(): value.strip() for field, _, value in pairs}
