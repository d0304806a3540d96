"""Makes every picture of these pages again, in `docs/pictures/`: runs the pages and the examples.

    python docs/pictures.py [PAGE or EXAMPLE ...]

A page's code stands in ```python blocks, as at Python's prompt with what it prints; all the blocks
of a page are one session. The tests run the same code elsewhere.
"""

from __future__ import annotations

import contextlib
import doctest
import importlib.util
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("[!_]*.py"))


def session(page: Path) -> doctest.DocTest:
    """The page's code as one doctest, every other line blank: line numbers are the page's."""
    lines, language = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        fence = re.match(r"```(\w*)", line)
        if fence:
            language = None if language is not None else fence[1]
        lines.append(line if language == "python" and not fence else "")
    name = str(page.relative_to(ROOT))
    return doctest.DocTestParser().get_doctest("\n".join(lines), {}, name, str(page), 0)


def run_page(page: Path, folder: Path) -> str:
    """Runs the code of a page inside a folder; the differences from what it says, "" for none."""
    said: list[str] = []
    runner = doctest.DocTestRunner(
        verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    with contextlib.chdir(folder):
        runner.run(session(page), out=said.append)
    return "".join(said)


def run_example(example: Path, folder: Path) -> None:
    """Runs an example's main; its pictures go to the folder."""
    sys.path.insert(0, str(example.parent))
    try:
        spec = importlib.util.spec_from_file_location(example.stem, example)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.main(folder)
    finally:
        sys.path.remove(str(example.parent))


def main(names: list[str]) -> int:
    folder = ROOT / "docs" / "pictures"
    folder.mkdir(exist_ok=True)
    wanted = [Path(name).resolve() for name in names] or [*EXAMPLES, *PAGES]
    failed = 0
    for path in wanted:
        print(f"--- {path.relative_to(ROOT)}", flush=True)
        if path.suffix == ".py":
            run_example(path, folder)
        elif said := run_page(path, folder):
            failed = 1
            print(said)
    return failed


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main(sys.argv[1:]))
