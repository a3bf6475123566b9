"""What a figure or a network was made with: versions, devices, commit."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

__all__ = ["environment", "versions"]


def environment() -> dict[str, Any]:
    """What a run is trained with."""
    import tensorflow as tf

    return {
        "platform": platform.platform(),
        "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "versions": versions("mammogan-tf", "tensorflow", "keras", "numpy", "scikit-image"),
        "git_commit": _git_commit(),
    }


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
