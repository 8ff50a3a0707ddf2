"""Profile of one call: its largest kernels, and its copies between host and device."""

import collections
import gzip
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

__all__ = ["kernels", "profile"]


def profile(call: Callable[[], Any]) -> dict[str, Any]:
    """Return the three largest kernels of a call, as fractions of its time, and the host–device copies."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, create_perfetto_trace=True):
            jax.block_until_ready(call())
        files = sorted(Path(folder).rglob("*.trace.json.gz"))
        events = json.loads(gzip.decompress(files[0].read_bytes()))["traceEvents"] if files else []
    return kernels(events)


# Events of a CPU trace that only contain other events.
_CONTAINERS = ("ThunkExecutor::Execute", "while", "call", "conditional")


def kernels(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the device events of a Chrome trace, or on a CPU the events of XLA's threads."""
    names = {
        (event["pid"], event.get("tid") if event["name"] == "thread_name" else None): event["args"]["name"]
        for event in events
        if event.get("ph") == "M" and event["name"] in ("process_name", "thread_name")
    }
    device = [pid for (pid, tid), name in names.items() if tid is None and name.startswith("/device:")]
    total: collections.Counter[str] = collections.Counter()
    copies = 0
    for event in events:
        if event.get("ph") != "X" or not event.get("dur"):
            continue
        thread = names.get((event["pid"], event.get("tid")), "")
        if event["pid"] in device or (not device and "XLAEigen" in thread):
            name = re.sub(r"[._]\d+$", "", event["name"])
            if name not in _CONTAINERS:
                total[name] += event["dur"]
            copies += bool(re.search("memcpy(d2h|h2d)", event["name"], re.IGNORECASE))
    whole = sum(total.values())
    largest = {name: spent / whole for name, spent in total.most_common(3)}
    return {"largest kernels": largest or None, "copies": copies if device else None}
