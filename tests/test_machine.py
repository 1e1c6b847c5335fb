import os
import re
import subprocess
import sys

import pytest
import torch

from xlscale.core import machine
from xlscale.core.files import ROOT
from xlscale.engine import processes

# Of what changes the last bits of a result, some that users and clusters set.
SET = [
    *("MKL_CBWR=AVX2", "MKL_NUM_THREADS=4", "MKL_ENABLE_INSTRUCTIONS=SSE4_2", "ONEDNN_MAX_CPU_ISA=AVX2"),
    *("DNNL_MAX_CPU_ISA=AVX2", "ONEDNN_DEFAULT_FPMATH_MODE=BF16", "OMP_NUM_THREADS=7", "OMP_SCHEDULE=dynamic"),
    *("KMP_AFFINITY=compact", "GOMP_CPU_AFFINITY=0", "ATEN_CPU_CAPABILITY=default", "OPENBLAS_CORETYPE=Haswell"),
    *("NPY_DISABLE_CPU_FEATURES=AVX512F", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1", "NVIDIA_TF32_OVERRIDE=1"),
    *("CUBLAS_WORKSPACE_CONFIG=:16:8", "BLIS_ARCH_TYPE=zen", "VECLIB_MAXIMUM_THREADS=2", "ARROW_USER_SIMD_LEVEL=NONE"),
    *("CUBLASLT_WORKSPACE_SIZE=1024", "NCCL_ALGO=Tree", "NCCL_PROTO=LL"),
]


def git(folder, *arguments):
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def test_what_is_computed_does_not_make_the_tree_dirty_and_code_does(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.checkout, "ROOT", tmp_path)
    assert machine.commit() == {"commit": None, "dirty": None}
    for path in ("results/cells.parquet", "paper/paper.typ", "src/code.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("one")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "one")
    (tmp_path / "results/cells.parquet").write_text("two")
    (tmp_path / "results/new.parquet").write_text("two")
    (tmp_path / "paper/numbers.json").write_text("{}")
    assert machine.commit()["dirty"] is False
    (tmp_path / "paper/paper.typ").write_text("two")
    assert machine.commit()["dirty"] is True
    git(tmp_path, "checkout", "paper/paper.typ")
    (tmp_path / "src/new.py").write_text("two")
    assert machine.commit()["dirty"] is True


def test_the_machine_type_is_that_of_the_record_where_nobody_changed_how_libraries_compute(monkeypatch):
    for name in [name for name in os.environ if machine.ARITHMETIC.fullmatch(name)]:
        monkeypatch.delenv(name)
    plain = machine.machine_type(torch.bfloat16)
    assert re.fullmatch(rf".+, {torch.backends.cpu.get_cpu_capability()}, bfloat16, torch [^,]+, 1 thread", plain)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # which the engine sets
    monkeypatch.setenv("HOME", "/elsewhere")
    assert machine.machine_type(torch.bfloat16) == plain


@pytest.mark.parametrize(
    "setting", [*SET, "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2", "LD_PRELOAD=/x.so", "LD_AUDIT=/x.so"]
)
def test_what_changes_arithmetic_is_part_of_the_machine_type(setting, monkeypatch):
    plain = machine.machine_type(torch.float32)
    monkeypatch.setenv(*setting.split("=", 1))
    assert machine.machine_type(torch.float32) == f"{plain}, {setting}"


def test_commands_and_notebooks_do_not_see_it(monkeypatch):
    for setting in SET:
        monkeypatch.setenv(*setting.split("=", 1))
    monkeypatch.setenv("XLSCALE_KEPT", "yes")
    found = processes.environment()
    assert not {setting.split("=")[0] for setting in SET} & found.keys() - {"OMP_NUM_THREADS"}
    assert found["OMP_NUM_THREADS"] == "1" and found["XLSCALE_KEPT"] == "yes"
    code = "import os; from xlscale import __main__ as door; from xlscale.commands import verbs\n"
    code += "verbs.parser = lambda: print(sorted(os.environ)) or exit(0)\ndoor.main(['plan'])"
    places = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    seen = subprocess.run([sys.executable, "-c", code], env=places, capture_output=True, text=True, check=True).stdout
    assert "XLSCALE_KEPT" in seen and not any(repr(setting.split("=")[0]) in seen for setting in SET)
