"""The C kernels without Python: the rules of csrc/, and every kernel against plain loops."""

import os
import re
import shlex
import shutil
import signal
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
    functions = {name for kind, name in symbols if kind in "tT"} - {"runs", "halves"}
    isas = "|".join(source.stem.removeprefix("isa_") for source in SOURCES if "isa_" in source.stem)
    assert functions
    for name in functions:
        assert re.fullmatch(rf"fc_\w+_f(32|64)_({isas})(_\dx\d)?", name) or name in (
            "fc_pool_scratch",
            "fc_soft_pool_room",
        ), name


@pytest.fixture(scope="module")
def program(objects, tmp_path_factory):
    """tests/csrc/check.c with the objects."""
    made = tmp_path_factory.mktemp("check") / "check"
    flags = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-fno-pie", "-no-pie")
    check = ROOT / "tests" / "csrc" / "check.c"
    output(*COMPILER, *flags, "-I", ROOT / "csrc", check, *objects.values(), "-lm", "-o", made)
    return made


def test_every_kernel_against_plain_loops(program):
    for seed in range(1, 6):
        said = output(program, seed)
        for side in ("before", "behind"):
            assert re.search(
                rf"^portable: [1-9]\d* values, buffers {side} a guard page$", said, re.M
            ), said


@pytest.mark.parametrize("side", ["before", "behind"])
@pytest.mark.parametrize("access", ["read", "write"])
def test_a_guard_page_stops_an_overrun_of_one_element(program, access, side):
    done = subprocess.run([program, "overrun", access, side], capture_output=True, timeout=300)
    assert -done.returncode in (signal.SIGSEGV, signal.SIGBUS)


def fields():
    """The kernels of the table in fastconv.h, by name."""
    table = (ROOT / "csrc" / "fastconv.h").read_text()
    table = table[table.index("#define FC_DECLARE") : table.index("} fc_kernels_##S")]
    pointers = re.findall(r"\w+\(\*(\w+)(?:\[\d+\])*\) FC_\w+_ARGS", table)
    tiles = re.findall(r"^ *fc_\w+_##S (\w+)\[", table, re.M)
    return {name for name in pointers if not name.startswith("fc_")} | set(tiles)


def test_every_kernel_has_a_check():
    checked = (ROOT / "tests" / "csrc" / "check_of.h").read_text()
    called = set(re.findall(r"f->(\w+)(?:\[[^;(]*?\])*\(", checked))
    assert {"tile", "panel", "sum", "max_unpool", "avg_unpool_lanes"} <= fields()
    assert fields() <= called


# -- csrc/README.md


def page():
    return (ROOT / "csrc" / "README.md").read_text()


def test_page_lists_every_field_and_every_kernel_file():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| .* \| (`.*\.h`) \|$", page(), re.M)
    listed = [name for names, _ in rows for name in re.findall(r"\w+", names)]
    assert sorted(listed) == sorted(fields())
    files = {file for _, these in rows for file in re.findall(r"`([\w.]+)`", these)}
    assert files == {f.name for f in (ROOT / "csrc" / "kernels").glob("*.h")} - {
        "one.h",
        "all.h",
        "end.h",
    }


def test_page_lists_every_isa_with_its_tiles():
    rows = dict(re.findall(r"^\| `(\w+)` \| \S.*?\| (\d+ \| \d x \d \| \d x \d) \|$", page(), re.M))
    assert set(rows) == {s.stem.removeprefix("isa_") for s in SOURCES if s.stem != "dispatch"}
    for isa, row in rows.items():
        source = (ROOT / "csrc" / f"isa_{isa}.c").read_text()
        tall = int(re.search(r"define FC_ISA_TILE_M (\d+)", source)[1])
        wide = re.search(r"define FC_ISA_TILE_V \{(.*)\}", source)[1].split(", ")[tall]
        panel = re.search(r"define FC_ISA_PANEL_V (\d+)", source)[1]
        lanes = int(re.search(r"define FC_BYTES (\d+)", source)[1]) // 4
        most = re.search(r"FC_PANEL_M = (\d+)", (ROOT / "csrc" / "fastconv.h").read_text())[1]
        assert row == f"{lanes} | {tall} x {wide} | {most} x {panel}"


def test_page_lists_every_verb():
    source = (ROOT / "csrc" / "simd.h").read_text()
    verbs = set(re.findall(r"^#define (\w+) FN\(fc_\1\)$", source, re.M))
    verbs |= set(re.findall(r"^#define ([a-z]\w+)\(", source, re.M))
    section = page()[page().index("## The vocabulary") : page().index("## Add a kernel")]
    assert set(re.findall(r"`(\w+)`", section)) == verbs - {"uvec"}
    listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`.*?`) \|", section, re.M)))
    assert sorted(listed) == sorted(verbs - {"vec", "uvec", "ivec"})  # in the table, each once


def test_page_lists_every_file():
    files = page()[: page().index("## Dimensions")]
    for path in (ROOT / "csrc").glob("*.[ch]"):
        assert path.name in files or path.name.startswith("isa_"), path.name
