"""What the numbers were taken on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.servers import Cores


def described(cores: Cores) -> dict[str, Any]:
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "server_core": cores.server,
        "load_core": cores.load,
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _field(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def in_a_sentence(machine: dict[str, Any]) -> str:
    pinned = f"the server on core {machine['server_core']}, the load on core {machine['load_core']}"
    if machine["server_core"] is None:
        pinned = "one core for the server and the load together, so times are not comparable"
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}, {machine['kernel']}, {machine['python']}; "
        f"{pinned}; load average before: {machine['load_average_before']}; {machine['when']}"
    )
