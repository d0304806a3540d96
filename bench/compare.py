"""Two commits, measured in turn.

    python bench/compare.py main my-branch --layers LeNet --ops forward

Both are checked out beside this tree and compiled there; then `fastconv bench` of one and of the
other run alternately, each time in a new process. A ratio above 1 says that the second is faster:
the median over the processes of the first's time, divided by the second's. The brackets have the
smallest and the largest ratio of a pair of processes: where 1 lies between them, nothing is shown.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from fastconv.bench import table

ROOT = Path(__file__).resolve().parents[1]
NEEDED = "fastconv/bench/run.py"  # what `fastconv bench` came with


class Failed(Exception):
    """A step that did not work; the exit status is 2 for a wrong call, else 1."""

    def __init__(self, text, status=1):
        super().__init__(text)
        self.status = status


def say(text):
    print(text, file=sys.stderr, flush=True)


def ran(command, doing, status=1, **how):
    """Standard output of a command; its last words where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **how)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise Failed(f"{doing}: {words[-1]}", 2 if done.returncode == 2 else status)
    return done.stdout


def commit(ref):
    """The commit that a name means, if it has `fastconv bench`."""
    # what begins with a dash is an option to git
    if ref.startswith("-"):
        raise Failed(f"{ref}: not a commit of this repository", 2)
    verify = ["git", "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"]
    found = subprocess.run(verify, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise Failed(f"{ref}: not a commit of this repository", 2)
    name = found.stdout.strip()
    there = ["git", "cat-file", "-e", f"{name}:{NEEDED}"]
    if subprocess.run(there, cwd=ROOT, capture_output=True).returncode:
        raise Failed(f"{ref}: this commit has no `fastconv bench` yet", 2)
    return name


@contextlib.contextmanager
def built(commits):
    """{commit: folder} of trees with compiled extension modules, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="fastconv-compare-") as place:
        trees = {}
        try:
            for number, name in enumerate(dict.fromkeys(commits)):
                tree = Path(place, f"{number}-{name[:10]}")
                add = ["git", "worktree", "add", "--detach", str(tree), name]
                ran(add, f"checking out {name[:10]}", cwd=ROOT)
                trees[name] = tree
                say(f"compiling {name[:10]}")
                build = [sys.executable, "setup.py", "build_ext", "--inplace"]
                ran(build, f"compiling {name[:10]}", cwd=tree)
            yield trees
        finally:
            for tree in trees.values():
                remove = ["git", "worktree", "remove", "--force", str(tree)]
                subprocess.run(remove, cwd=ROOT, capture_output=True)


def measured(tree, options):
    """{(family, layer, op): seconds} of a plain fastconv call, from one process."""
    bench = [sys.executable, "-m", "fastconv", "bench", "--peers", "none", "--json", *options]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    out = ran(bench, f"measuring {tree.name}", cwd=tree, env=environment)
    found = {key: table.ours(rows) for key, rows in table.groups(json.loads(out)["rows"]).items()}
    return {key: row["seconds"] for key, row in found.items() if row}


def ratios(first, second):
    """Rows of layers that both have, from the two lists of what `measured` gave."""
    for key in first[0]:
        if all(key in one for one in (*first, *second)):
            a, b = ([one[key] for one in times] for times in (first, second))
            pairs = [x / y for x, y in zip(a, b, strict=True)]
            yield {
                "family": key[0],
                "layer": key[1],
                "op": key[2],
                "seconds": [statistics.median(a), statistics.median(b)],
                "ratio": statistics.median(a) / statistics.median(b),
                "range": [min(pairs), max(pairs)],
            }


def text(rows, refs):
    """The comparison as a table for the terminal."""
    first, second = (ref if len(ref) <= 12 else f"{ref[:11]}~" for ref in refs)
    lines = [f"{'layer, operation':52} {first:>12} {second:>12} {'ratio':>7}"]
    for row in rows:
        name = f"{row['family']}: {row['layer']}, {row['op']}"
        a, b = map(table.duration, row["seconds"])
        low, high = row["range"]
        lines.append(f"{name:52} {a:>12} {b:>12} {row['ratio']:>6.3f}x ({low:.3f} to {high:.3f})")
    if rows:
        together = statistics.geometric_mean(row["ratio"] for row in rows)
        lines.append(f"{'geometric mean':52} {'':12} {'':12} {together:>6.3f}x")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(
        description="Compare the speed of two commits.",
        epilog="A ratio above 1: REF2 is faster.",
    )
    parser.add_argument("refs", nargs=2, metavar="REF", help="a commit, branch or tag")
    parser.add_argument("--layers", nargs="+", default=[], metavar="PATTERN")
    parser.add_argument("--ops", nargs="+", default=[], metavar="OP")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--allocation", choices=("fresh", "out"), default="fresh")
    parser.add_argument("--processes", type=int, default=5, help="of each commit (5)")
    parser.add_argument("--rounds", type=int, default=7, help="samples in each process (7)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args(argv)
    options = [f"--threads={args.threads}", f"--allocation={args.allocation}"]
    options.append(f"--rounds={args.rounds}")
    for name in ("layers", "ops"):
        if getattr(args, name):
            options += [f"--{name}", *getattr(args, name)]
    try:
        if args.processes < 1:
            raise Failed(f"--processes: expected at least 1, got {args.processes}", 2)
        commits = [commit(ref) for ref in args.refs]
        times = [], []
        with built(commits) as trees:
            for number in range(args.processes):
                say(f"[{number + 1}/{args.processes}] both commits")
                for name, found in zip(commits, times, strict=True):
                    found.append(measured(trees[name], options))
    except Failed as error:
        say(f"compare: {error}")
        return error.status
    rows = list(ratios(*times))
    for ref, one, other in zip(args.refs, times, reversed(times), strict=True):
        for family, layer, op in set(one[0]) - set(other[0]):
            say(f"only in {ref}: {family}: {layer}, {op}")
    if args.json:
        print(json.dumps({"refs": args.refs, "commits": commits, "rows": rows}, indent=1))
    else:
        print(text(rows, args.refs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
