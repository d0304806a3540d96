"""The README's tables, from saved runs.

    pytest bench/ --benchmark-json=run.json
    python bench/report.py run.json        # writes bench/results.json and the README's table
    python bench/report.py one.json two.json --cold-start cold.json    # more of them
    python bench/report.py --check         # does the table still say what bench/results.json says?

A run is saved by `pytest bench/` or by `fastconv bench --json FILE`. The first one's table stands
open, the others' are folded away; all between `<!-- bench:begin -->` and `<!-- bench:end -->`.
"""

import argparse
import os
import sys
from pathlib import Path

from fastconv.bench.table import BadRun, dumped, read_all, read_cold_start, tables

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def dumped_all(runs):
    """One run as it is, several as a list."""
    if len(runs) == 1:
        return dumped(runs[0])
    return "[\n" + ",\n".join(dumped(run).removesuffix("\n") for run in runs) + "\n]\n"


def replaced(page, block, name):
    """`page` with `block` between the two marks."""
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise BadRun(f"{name}: expected one line {BEGIN} and after it one {END}")
    head, rest = page.split(BEGIN)
    return f"{head}{BEGIN}\n{block}\n{END}{rest.split(END)[1]}"


def write(path, content):
    """Write beside, then rename."""
    beside = path.with_name(f"{path.name}.part")
    beside.write_text(content, encoding="utf-8")
    os.replace(beside, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description="Write the README's tables from saved runs.")
    parser.add_argument(
        "run", nargs="*", type=Path, help="JSON of pytest --benchmark-json or fastconv bench --json"
    )
    parser.add_argument(
        "--cold-start", type=Path, metavar="FILE", help="JSON of fastconv bench --cold-start"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    args = parser.parse_args(argv)
    source = " and ".join(map(str, args.run)) or args.results
    try:
        runs = [run for path in args.run or [args.results] for run in read_all(path)]
        if args.cold_start:
            runs[0]["cold_start"] = read_cold_start(args.cold_start)
        page = args.readme.read_text(encoding="utf-8")
        new = replaced(page, tables(runs), args.readme)
    except (OSError, BadRun) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    if args.check:
        if new != page:
            print(
                f"report: {args.readme} does not show {source}; run python bench/report.py",
                file=sys.stderr,
            )
        return int(new != page)
    if args.run or args.cold_start:
        write(args.results, dumped_all(runs))
    write(args.readme, new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
