"""Times all arms in turn, in one process, and each one's memory in its own."""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import psutil
import torch
from tqdm import tqdm

from ..processor import processor
from .arms import ARMS, Setting, steps

Results = dict[str, Any]


def measure(setting: Setting, repeats: int, device: str, with_memory: bool) -> Results:
    """One row: seconds of each arm in turn, medians, ratios, peak memory.

    An arm that does not fit in memory has no seconds; its entry says so.
    """
    result: Results = {"setting": asdict(setting), "repeats": repeats}
    arms = [arm for arm in ARMS if arm != "oracle" or fits(setting, device)]
    kernel: dict[str, list[tuple[int, float]]] = {arm: [] for arm in ARMS}
    with tqdm(total=(repeats + 1) * len(arms), desc=str(setting), leave=False) as bar:
        step = {arm: steps(setting, arm, device) for arm in arms}
        seconds: dict[str, list[float]] = {arm: [] for arm in arms}
        for repeat in range(repeats + 1):
            for arm in arms:
                before = resource.getrusage(resource.RUSAGE_SELF)
                value = step[arm]()
                after = resource.getrusage(resource.RUSAGE_SELF)
                if repeat:  # the first is for warming up
                    seconds[arm].append(value)
                    faults = after.ru_minflt - before.ru_minflt
                    kernel[arm].append((faults, after.ru_stime - before.ru_stime))
                bar.update()
    result["seconds"] = seconds
    median = {arm: statistics.median(values) for arm, values in seconds.items()}
    result["median"] = median
    # Large temporary tensors are mapped anew at each step. What that costs differs from
    # one machine and hour to the next, and makes the naive way's ratio vary.
    for index, name in enumerate(("page faults", "kernel seconds, all threads")):
        result[name] = {
            arm: statistics.median(pair[index] for pair in pairs)
            for arm, pairs in kernel.items()
            if pairs
        }
    result["oracle / fast"] = (
        median["oracle"] / median["fast"] if "oracle" in median else None
    )
    result["fast / floor"] = median["fast"] / median["floor"]
    result["floor GFLOP/s"] = setting.floor_operations / median["floor"] / 1e9
    if with_memory:
        result["peak MB"] = {
            arm: peak_in_own_process(setting, arm, device)
            for arm in arms
            if arm != "floor"
        }
    return result


def fits(setting: Setting, device: str) -> bool:
    """Whether the oracle's step is likely to fit in half of the free memory."""
    if device == "cpu":
        free = psutil.virtual_memory().available
    else:
        free = torch.cuda.mem_get_info(device)[0]
    return setting.oracle_nbytes < free / 2


def peak_in_own_process(setting: Setting, arm: str, device: str) -> float:
    """Megabytes that steps of one arm need above a process that has only imported."""
    command = [sys.executable, "-m", "benchmarks.speed.measure"]
    arguments = json.dumps([asdict(setting), arm, device])
    output = subprocess.run(
        [*command, arguments], check=True, capture_output=True, text=True
    )
    return float(output.stdout.strip().splitlines()[-1])


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "processor": processor(),
        "torch threads": str(torch.get_num_threads()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "malloc": _malloc(),
    }


def _malloc() -> str:
    """Settings of the C library that decide about page faults."""
    settings = [f"{k}={v}" for k, v in os.environ.items() if k.startswith("MALLOC_")]
    return ", ".join(sorted(settings)) or "as it comes"


def _peak(setting: Setting, arm: str, device: str) -> float:
    before = psutil.Process().memory_info().rss
    step = steps(setting, arm, device)
    for _ in range(2):
        step()
    if device != "cpu":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return (_highest_rss() - before) / 1e6


def _highest_rss() -> int:
    """Peak resident bytes; `ru_maxrss` would include what the parent process had."""
    try:
        with open("/proc/self/status") as file:
            line = next(line for line in file if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    fields, arm_, device_ = json.loads(sys.argv[1])
    print(_peak(Setting(**fields), arm_, device_))
