"""The pages say what is true: their code runs, their tables match the code, their links lead on."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fastconv.backends import native

ROOT = Path(__file__).resolve().parents[1]
MADE_ON_THE_WAY = ("build/", "run.json", "bench/results.json")
PAGES = ["README.md", "CONTRIBUTING.md", "csrc/README.md", "bench/README.md"]

pytestmark = pytest.mark.skipif(
    not (ROOT / "csrc").exists(), reason="these tests stand away from the source tree"
)


def page(name):
    path = ROOT / name
    return path.read_text(encoding="utf-8") if path.exists() else ""


def blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.S | re.M)


def rows(name, first_heading):
    """Cells of the table whose first column is headed so."""
    table = re.search(
        rf"^\| {re.escape(first_heading)} \|.*\n\|[ |-]*\n((?:\|.*\n)+)", page(name), re.M
    )
    return [[c.strip() for c in line.strip("| ").split(" | ")] for line in table[1].splitlines()]


def code(cell):
    """What stands between backquotes."""
    return re.findall(r"`([^`]+)`", cell)


def test_the_first_two_commands():
    train, test = blocks("README.md", "bash")[:2]
    assert "fastconv train" in train
    assert "pytest" in test
    extras = re.findall(r"^pip install (?:-e )?'\.\[(\w+)\]'$", train + test, re.M)
    assert extras == ["train", "test"]


@pytest.mark.parametrize("number", range(len(blocks("README.md", "python"))))
def test_python_of_the_readme_runs(number, capsys):
    source = blocks("README.md", "python")[number]
    names = {}
    exec(compile(source, f"README.md, block {number}", "exec"), names)
    # a comment that is a shape stands behind the array that has it
    for name, shape in re.findall(r"^(\w+) = .*# (\(.*\))$", source, re.M):
        assert str(names[name].shape) == shape
    assert "print(" not in source or capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)\)", page(name)):
        if not target.startswith("https://"):
            assert ((ROOT / name).parent / target).exists(), target


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_exist(name):
    folder = (ROOT / name).parent
    for target in re.findall(r"`([\w./-]+(?:\.(?:pyx|pxd|py|md|c|h|json|toml)|/))`", page(name)):
        places = [ROOT, folder, ROOT / "fastconv", ROOT / "csrc"]
        places += [
            ROOT / part
            for part in (
                "fastconv/backends/native",
                "fastconv/backends/numba",
                "fastconv/bench",
                "csrc/kernels",
            )
        ]
        if target in MADE_ON_THE_WAY:
            continue
        assert any((p / target).exists() for p in places), target


def test_the_map_names_every_folder():
    cells = [row[0] for row in rows("README.md", "folder")]
    mapped = {target.split("/")[0] for cell in cells for target in code(cell)}
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    folders = {name.split("/")[0] for name in listed if "/" in name} - {".ci"}
    assert folders <= mapped


def test_the_table_of_isas():
    table = {code(name)[0]: rest for name, *rest in rows("csrc/README.md", "name")}
    sources = {path.stem.removeprefix("isa_") for path in (ROOT / "csrc").glob("isa_*.c")}
    assert set(table) == sources
    built = native.isa_names()
    assert [name for name in table if name in built] == list(built)
    for name in built:
        own = native.tiles(name)["float32"]
        sizes = [str(own["lanes"]), f"{own['m']} x {own['v']}", f"6 x {own['panel_v']}"]
        assert table[name][2:] == sizes


def test_the_table_of_kernels():
    documented = [field for row in rows("csrc/README.md", "field") for field in code(row[0])]
    source = (ROOT / "csrc" / "kernels" / "one.h").read_text()
    functions = re.findall(r"^    \.(\w+) = (?:\{?FN\(fc_|FC_WINOGRAD\()", source, re.M)
    assert sorted(documented) == sorted([*functions, "tile", "panel", "dot"])


def test_the_developers_guide_runs_files_that_exist():
    for cell in (cell for row in rows("CONTRIBUTING.md", "to") for cell in row[1:]):
        for target in re.findall(r"\b(?:tests|bench)/\S+\.py", cell):
            assert (ROOT / target).exists(), target
