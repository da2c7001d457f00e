"""What records say of the processor."""

import platform

import torch

from benchmarks.processor import processor

X86 = """\
processor\t: 0
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC

processor\t: 1
cpu family\t: 27
model name\t: another
"""


def test_of_linux_on_x86(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(X86)
    instructions = torch.backends.cpu.get_cpu_capability()
    expected = f"AMD EPYC, cpu family 26, model 2, {instructions}"
    assert processor(cpuinfo) == expected


def test_where_linux_has_no_name_or_there_is_no_linux(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nBogoMIPS\t: 50.00\n")
    for path in (cpuinfo, tmp_path / "none"):
        assert processor(path).startswith("aarch64, ")
