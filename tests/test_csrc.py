"""The C kernels without Python: the rules of csrc/, and every kernel against plain loops."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "csrc").glob("*.c"))
COMPILER = shlex.split(os.environ.get("CC", "cc"))

pytestmark = pytest.mark.skipif(
    not SOURCES or shutil.which(COMPILER[0]) is None or sys.platform != "linux",
    reason="needs the source tree and a C compiler on Linux",
)


def output(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """csrc/*.c compiled as C11 without optimisation; every warning is an error."""
    folder = tmp_path_factory.mktemp("objects")
    made = {source: folder / (source.stem + ".o") for source in SOURCES}
    for source, target in made.items():
        strict = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-O0", "-fno-pie")
        output(*COMPILER, *strict, "-c", source, "-o", target)
    return made


@pytest.fixture(scope="module")
def symbols(objects):
    """(kind as `nm` has it, name) of every symbol."""
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    return {
        tuple(line.split()[-2:])
        for target in objects.values()
        for line in output("nm", target).splitlines()
        if line.strip()
    }


def test_kernels_need_nothing_but_memory_functions(symbols):
    needed = {name for kind, name in symbols if kind in "Uw"}
    isas = {name for name in needed if name.startswith("fc_isa_")}
    # __cpu_model is what __builtin_cpu_supports reads
    assert needed - isas <= {"memset", "memcpy", "memmove", "__cpu_model", "_GLOBAL_OFFSET_TABLE_"}


def test_nothing_mutable_outside_functions(symbols):
    assert not {name for kind, name in symbols if kind in "bBdDC"}


def test_names_say_operation_dtype_and_isa(symbols):
    functions = {name for kind, name in symbols if kind in "tT"} - {"runs"}
    isas = "|".join(source.stem.removeprefix("isa_") for source in SOURCES if "isa_" in source.stem)
    assert functions
    for name in functions:
        assert re.fullmatch(rf"fc_\w+_f(32|64)_({isas})(_\dx\d)?", name) or name in (
            "fc_pool_scratch",
            "fc_soft_pool_room",
        ), name


def test_every_kernel_against_plain_loops(objects, tmp_path):
    program = tmp_path / "check"
    flags = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-fno-pie", "-no-pie")
    check = ROOT / "tests" / "csrc" / "check.c"
    output(*COMPILER, *flags, "-I", ROOT / "csrc", check, *objects.values(), "-lm", "-o", program)
    for seed in range(1, 6):
        said = output(program, seed)
        assert re.search(r"^portable: [1-9]\d* values$", said, re.M), said
