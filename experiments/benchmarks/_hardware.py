"""The name of the processor, for the tables of benchmarks."""

import platform
from pathlib import Path


def processor() -> str:
    """Return the name of the processor where the system tells it, else that of the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
