"""What this machine is and how it computes: precision, threads, peak memory, package versions, commit."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from xlscale.core import checkout
from xlscale.core.files import ARITHMETIC, XlscaleError

PACKAGES = ["torch", "transformers", "tokenizers", "datasets", "numpy", "papermill"]
# One thread per cell: several cells run side by side, and a result does not depend on how many cores there are.
THREADS = 1
# Environment variables that take effect before this process can clear them. Of the others see ``engine.processes``.
LOADER = {"LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES"}
# Without it, cuBLAS may give something else each time: see torch.use_deterministic_algorithms.
CUBLAS = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
# What scikit-learn sets when it is imported, and torch's launcher for what it starts, whatever their user does; none
# changes a result.
IMPORTED = {"KMP_DUPLICATE_LIB_OK": "True", "KMP_INIT_AT_FORK": "FALSE", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}
# What commands write into the checkout.
COMPUTED = ["results", "studies/tuned.json", "paper/generated", "paper/figures", "paper/numbers.*", "paper/paper.pdf"]


CPU = torch.device("cpu")


def native_bf16(device: torch.device = CPU) -> bool:
    """Whether a device multiplies bfloat16 natively; elsewhere it is emulated and slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def precision(wanted: str, device: torch.device = CPU) -> torch.dtype:
    """``auto``, ``bf16`` or ``float32`` -> the dtype of matrix products. Weights and updates stay float32."""
    use = native_bf16(device) if wanted == "auto" else wanted == "bf16"
    return torch.bfloat16 if use else torch.float32


@cache
def cpu_name() -> str:
    """The processor's name, family and model as the operating system gives them."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:
            facts = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines() if ":" in line)
        facts = {key.strip(): value.strip() for key, value in facts.items()}
        return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"
    except (OSError, KeyError):
        return platform.processor() or platform.machine()


def gpu_name() -> str:
    """The GPU's name, its driver and the CUDA that torch was built with."""
    try:
        with open("/sys/module/nvidia/version", encoding="utf-8") as f:
            driver = f.read().strip()
    except OSError:
        driver = "unknown"
    return f"{torch.cuda.get_device_name()}, driver {driver}, CUDA {torch.version.cuda}"


def machine_type(dtype: torch.dtype, device: torch.device = CPU, ranks: int = 1) -> str:
    """What has to be equal for predictions to be expected equal bit for bit, what its user set included. ``ranks``: how
    many processes worked on them together."""
    capability = torch.backends.cpu.get_cpu_capability()
    kind = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        kind = f"{gpu_name()}, {ranks} GPU{'s' * (ranks > 1)}, sdpa, {kind}"
    elif ranks > 1:
        kind = f"{ranks} processes, {kind}"
    set_by_user = {name: value for name, value in os.environ.items() if name in LOADER or ARITHMETIC.fullmatch(name)}
    ours = IMPORTED | CUBLAS | {"OMP_NUM_THREADS": str(THREADS)}  # as ``engine.processes`` sets it
    kept = [f"{name}={value}" for name, value in sorted(set_by_user.items()) if ours.get(name) != value]
    return ", ".join([f"{cpu_name()}, {capability}, {kind}, torch {torch.__version__}, {THREADS} thread", *kept])


def environment(dtype: torch.dtype, device: torch.device = CPU, ranks: int = 1) -> dict[str, Any]:
    """Machine type, package versions and commit, for a result's record; of a GPU how much of it was used, too."""
    on_gpu = {"peak_gpu_gb": round(torch.cuda.max_memory_allocated() / 1e9, 3)} if device.type == "cuda" else {}
    return {
        "machine": machine_type(dtype, device, ranks),
        **on_gpu,
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        **commit(),
    }


def commit() -> dict[str, Any]:
    """The checkout's commit and whether the tree differed from it; None where there is no git.

    What is computed (the record, the paper's generated files) does not count: a sweep adds to it while it runs.
    """
    try:
        head = checkout.git("rev-parse", "HEAD").decode().strip()
        changed = checkout.git("status", "--porcelain", "--", ".", *(f":!{path}" for path in COMPUTED))
        return {"commit": head, "dirty": bool(changed.strip())}
    except XlscaleError:
        return {"commit": None, "dirty": None}


def peak_memory_gb() -> float:
    """Largest resident size of this process so far, in GB (10^9 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
