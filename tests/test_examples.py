"""Every example runs, says what it found, and saves its picture."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "examples").exists():
    pytest.skip("these tests stand away from the source tree", allow_module_level=True)

spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)

# for each example: patterns that what it prints has to have, and the files that it writes
FINDINGS = {
    "edges": (
        [r"diagonal edge: 7 pixels of \[-1\.\]", r"transposed: 7 pixels of \[1\.\]"],
        ["edges.png"],
    ),
}


def test_every_example_is_tested():
    assert set(FINDINGS) == {path.stem for path in pictures.EXAMPLES}


@pytest.mark.parametrize("name", FINDINGS)
def test_example(name, tmp_path, capsys):
    pictures.run_example(ROOT / "examples" / f"{name}.py", tmp_path)
    said = capsys.readouterr().out
    patterns, files = FINDINGS[name]
    for pattern in patterns:
        assert re.search(pattern, said), f"{pattern!r} not in:\n{said}"
    for file in files:
        assert (tmp_path / file).stat().st_size > 500
        assert file in said


def test_from_the_command_line(tmp_path):
    command = [sys.executable, ROOT / "examples" / "edges.py", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "picture:" in done.stdout
    assert (tmp_path / "edges.png").exists()
