"""What a measurement ran on: processor, libraries, threads, versions, sources."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import now

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-learn-intelex",
    "faiss-cpu",
    "superkmeans",
    "opencv-python-headless",
    "mlpack",
    "geokmeans",
    "threadpoolctl",
    "pytest-benchmark",
    "cupy",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "torch",
    "triton",
    "flashlib",
    "flash-kmeans",
    "fastkmeans",
    "fast-pytorch-kmeans",
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def run_info(bench: str, arguments: Sequence[str] | None) -> dict[str, Any]:
    """What a document of results begins with: when, by which command, from which commit, on what machine.

    `arguments` are those of the module's `main`: None for those of the process.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "datetime": now(),
        "command": " ".join([f"python -m bench.{bench}", *given]),
        "commit_info": commit_info(),
        "machine_info": machine_info(),
    }


def machine_info() -> dict[str, Any]:
    """Processor, usable cores, thread pools and versions (no host name)."""
    return {
        "node": "",
        "processor": platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python_implementation": platform.python_implementation(),
        "python_version": platform.python_version(),
        "cpu": {"brand_raw": cpu_model(), "arch": platform.machine(), "count": os.cpu_count()},
        "cores_used": usable_cores(),
        "thread_pools": thread_pools(),
        "environment": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "versions": versions(),
        "gpu": gpu_info(),
    }


def cpu_model() -> str:
    """The processor's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def thread_pools() -> list[dict[str, Any]]:
    """The thread pools loaded by now, from threadpoolctl, without paths."""
    from threadpoolctl import threadpool_info

    kept = ("user_api", "internal_api", "version", "num_threads", "architecture", "threading_layer")
    pools = [{key: pool[key] for key in kept if pool.get(key) is not None} for pool in threadpool_info()]
    return [pool for i, pool in enumerate(pools) if pool not in pools[:i]]


def versions() -> dict[str, str]:
    """Versions of the installed packages among PACKAGES, and of gpukmeans."""
    import gpukmeans

    found = {"gpukmeans": gpukmeans.__version__}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def gpu_info() -> dict[str, Any] | None:
    """Name, driver and memory by nvidia-smi, the CUDA runtime by CuPy; None without an NVIDIA GPU."""
    info: dict[str, Any] = {}
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        reply = run_text(query)
        if reply and "," in reply:
            name, driver, memory = (part.strip() for part in reply.splitlines()[0].split(","))
            info = {"name": name, "driver": driver, "memory": memory}
    try:
        import cupy

        if cupy.cuda.runtime.getDeviceCount() > 0:
            properties = cupy.cuda.runtime.getDeviceProperties(0)
            info.setdefault("name", properties["name"].decode())
            info["compute_capability"] = f"{properties['major']}.{properties['minor']}"
            info["multiprocessors"] = int(properties["multiProcessorCount"])
            info["l2_bytes"] = int(properties["l2CacheSize"])
            info["cuda_runtime"] = int(cupy.cuda.runtime.runtimeGetVersion())
            info["cuda_driver"] = int(cupy.cuda.runtime.driverGetVersion())
    except Exception as error:  # CuPy without a GPU can raise almost anything
        if info:
            info["cupy"] = f"{type(error).__name__}: {error}"[:300]
    return info or None


def commit_info() -> dict[str, Any]:
    """The commit, whether the measured sources differ from it, and a digest of them (which also works without git)."""
    commit = run_text(["git", "-C", str(ROOT), "rev-parse", "HEAD"])
    changed = run_text(["git", "-C", str(ROOT), "status", "--porcelain", "--", "gpukmeans", "kernels", "bench/*.py"])
    return {
        "id": commit.strip() if commit else None,
        "dirty": None if changed is None else bool(changed.strip()),
        "source_sha256": source_digest(),
    }


def source_digest(*folders: str) -> str:
    """SHA-256 over source files: by default the package's and the kernels'."""
    digest = hashlib.sha256()
    for folder in folders or ("gpukmeans", "kernels"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".cu", ".cuh", ".h"}:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def run_text(command: list[str], timeout: float = 30) -> str | None:
    """The output of a command, or None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
