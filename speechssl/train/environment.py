"""What a run ran on: versions, hardware, commit and command, for environment.json."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from speechssl.version import __version__

PACKAGES = ("torch", "lightning-fabric", "numpy", "soundfile", "soxr", "lhotse", "hydra-core", "safetensors")


def environment() -> dict[str, Any]:
    """Return versions, hardware, commit (None outside a checkout) and command of this process."""
    return {
        "speechssl": __version__,
        "commit": commit(),
        "command": shlex.join(sys.argv),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),
    }


def commit() -> str | None:
    """Return the git commit of the checkout this package lies in, with "+" where files differ from it."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, or a copy: a repository further up is somebody else's
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
