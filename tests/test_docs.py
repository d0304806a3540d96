"""The pages of docs/: their code prints what they say, their pictures and links are there."""

import importlib.util
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

ROOT = Path(__file__).resolve().parents[1]
if not (ROOT / "docs").exists():
    pytest.skip("these tests stand away from the source tree", allow_module_level=True)

spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
pictures = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pictures)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)


each_page = pytest.mark.parametrize(
    "page", pictures.PAGES, ids=[str(page.relative_to(ROOT / "docs")) for page in pictures.PAGES]
)


@each_page
def test_code_prints_what_the_page_says(page, tmp_path):
    said = pictures.run_page(page, tmp_path)
    assert not said, said


def test_a_wrong_page_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\n>>> x = 2\n>>> x + 1\n4\n```\n")
    pictures.ROOT, root = tmp_path, pictures.ROOT
    try:
        assert "line 5, in page.md" in pictures.run_page(page, tmp_path)
    finally:
        pictures.ROOT = root


@each_page
def test_every_block_of_python_is_a_session(page):
    for block in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M
    ):
        assert block.startswith(">>> ")


@each_page
def test_commands_run(page, tmp_path):
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = dict(os.environ, MPLBACKEND="agg")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            command = shlex.split(line, comments=True)
            if command[:1] == ["fastconv"]:
                command = ["python", "-m", *command]
            done = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"


@each_page
def test_links_and_pictures_are_there(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_picture_is_made_and_shown():
    made = "".join(path.read_text() for path in [*pictures.PAGES, *pictures.EXAMPLES])
    shown = "".join(page.read_text() for page in [*pictures.PAGES, ROOT / "examples" / "README.md"])
    for picture in (ROOT / "docs" / "pictures").glob("*.png"):
        assert f'"{picture.name}"' in made, f"{picture.name}: nothing makes it"
        assert f"pictures/{picture.name})" in shown, f"{picture.name}: no page shows it"
