"""What a figure or a network was made with: versions, devices, commit."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["PACKAGES", "changes_since", "environment", "processor", "usable_cores", "versions"]

PACKAGES = ("mammogan-tf", "tensorflow", "keras", "numpy", "scikit-image")
"""Packages whose versions a training depends on."""


def environment() -> dict[str, Any]:
    """What a run is trained with."""
    import tensorflow as tf

    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": usable_cores(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "versions": versions(*PACKAGES),
        "git_commit": _git_commit(),
    }


def changes_since(recorded: Mapping[str, Any]) -> list[str]:
    """What has changed since an :func:`environment` was recorded that makes the same computation round differently."""
    before, after = (
        {name: values[name] for name in ("processor", "TF_ENABLE_ONEDNN_OPTS", "devices") if name in values}
        | {name: values["versions"][name] for name in ("tensorflow", "keras", "numpy") if name in values["versions"]}
        for values in (recorded, environment())
    )
    return [f"{name} {before[name]}, now {after[name]}" for name in before if before[name] != after[name]]


def processor() -> str:
    """The name of the processor."""
    with suppress(OSError):  # Linux alone has it.
        if named := re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE):
            return named[1]
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(*packages: str) -> dict[str, str | None]:
    """Those of Python and of these packages, None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _git_commit() -> str | None:
    """The commit of the checkout that the package runs from, or None where it is installed elsewhere."""
    checkout = Path(__file__).parents[1]
    if not (checkout / ".git").exists():  # An environment may lie inside the repository of another project.
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
