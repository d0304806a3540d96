"""Tables of measurements: for the terminal, and in Markdown for the README."""

import json
from pathlib import Path

FAMILY_ORDER = ("Training step", "One image", "Convolution", "Pooling")
LISTED = ("Training step", "One image")  # a line for each operation instead of a column
OP_ORDER = (
    "forward", "input gradient", "weight gradient",
    "max", "max, indices", "avg", "max gradient", "avg gradient",
)  # fmt: skip


class BadRun(ValueError):
    """A file that is no saved run, or a page without a place for the table."""


def read(path):
    """The results of a run: a JSON file of pytest-benchmark, or one of `results`' own.

    Returns
    -------
    dict
        "command", "date", "machine" (cpu, cores, isa, threads), "versions", "missing", "rows".
    """
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadRun(f"{path}: not JSON ({error})") from None
    if "rows" in saved:
        return saved
    try:
        own = saved["machine_info"]["fastconv"]
        rows = [b["extra_info"] for b in saved["benchmarks"] if "family" in b["extra_info"]]
        return {
            "command": own["command"],
            "date": saved["datetime"][:10],
            "machine": {name: own[name] for name in ("cpu", "cores", "isa", "threads")},
            "versions": {
                "fastconv": own["fastconv"],
                "Python": own["python"],
                "NumPy": own["numpy"],
                **own["peers"],
            },
            "missing": own["missing"],
            "rows": [{k: rounded(v) for k, v in row.items()} for row in rows],
        }
    except (KeyError, TypeError) as error:
        raise BadRun(f"{path}: not a saved run of `pytest bench/` (no {error})") from None


def rounded(value):
    """Floats with the four digits that mean anything."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def duration(seconds):
    """Seconds for people.

    >>> duration(0.0123), duration(4.5e-6)
    ('12.3 ms', '4.50 us')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            value = seconds * factor
            digits = max(0, 2 - (value >= 10) - (value >= 100))
            return f"{value:.{digits}f} {unit}"


def times(ratio):
    """A ratio for people.

    >>> times(0.934), times(12.3), times(30123.0)
    ('0.93x', '12x', '30,123x')
    """
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:,.0f}x"


def groups(rows):
    """{(family, layer, op): its rows}, in the order of the run."""
    found = {}
    for row in rows:
        found.setdefault((row["family"], row["layer"], row["op"]), []).append(row)
    return found


def ours(rows):
    """The row of what a plain fastconv call runs (else fastconv's fastest); None without one."""
    own = [row for row in rows if row["kind"] == "fastconv"]
    plain = [row for row in own if row["auto"]]
    return min(plain or own, key=lambda row: row["seconds"], default=None)


def cell(rows):
    """Our time, rate and ratio to the best peer."""
    row = ours(rows)
    if row is None:
        return ""
    text = duration(row["seconds"])
    if row["ratio"] is not None:
        mark = "**" if row["ratio"] >= 1 else "_"
        text += f", {mark}{times(row['ratio'])}{mark}"
    return text


def naive(found):
    """One line for each layer on which naive loops ran: how many times as fast we are."""
    for (_, layer, op), rows in found.items():
        own = ours(rows)
        loops = [r for r in rows if r["contender"].endswith("loops")]
        if own is None or not loops or op != "forward" or own["family"] != "Convolution":
            continue
        parts = []
        for row in loops:
            note = f" ({row['note']})" if row["note"] else ""
            parts.append(f"{times(row['seconds'] / own['seconds'])} {row['contender']}{note}")
        yield f"{layer}, {op}: {', '.join(parts)}."


def position(order):
    """Sort key: the place in `order`, what is not in it at the end by name."""
    return lambda name: (order.index(name) if name in order else len(order), name)


def crossed(family, mine):
    """A table of layers by operations."""
    ops = sorted({op for _, _, op in mine}, key=position(OP_ORDER))
    yield f"| {family} | {' | '.join(ops)} |"
    yield "| --- |" + " ---: |" * len(ops)
    for layer in dict.fromkeys(layer for _, layer, _ in mine):
        cells = [cell(mine.get((family, layer, op), [])) for op in ops]
        yield f"| {layer} | {' | '.join(cells)} |"


def listed(family, mine):
    """A table with a line for each layer and operation, and the best peer's time."""
    yield f"| {family} | fastconv | best peer |"
    yield "| --- | ---: | ---: |"
    for (_, layer, op), rows in mine.items():
        row = ours(rows)
        peer = next((r for r in rows if row and r["contender"] == row["best_peer"]), None)
        theirs = "none" if peer is None else f"{peer['contender']}, {duration(peer['seconds'])}"
        yield f"| {layer}, {op} | {cell(rows)} | {theirs} |"


def table(results):
    """The README's table, as Markdown."""
    found = groups(results["rows"])
    machine, versions = results["machine"], results["versions"]
    threads = machine["threads"]
    families = {
        family: {key: rows for key, rows in found.items() if key[0] == family}
        for family in sorted({key[0] for key in found}, key=position(FAMILY_ORDER))
    }
    lines = []
    for family, mine in families.items():
        lines += [*(listed if family in LISTED else crossed)(family, mine), ""]
    peers = sorted({row["contender"] for row in results["rows"] if row["kind"] == "peer"})
    notes = [
        "Time of one call, and how many times as fast as the best peer in the same run "
        f"(**ahead**, _behind_). float32, {threads} thread{'s' if threads != 1 else ''} for "
        f"everybody. Peers: {', '.join(peers) or 'none'}."
    ]
    if results["missing"]:
        notes.append(f"Not installed, so not measured: {', '.join(results['missing'])}.")
    speed_ups = list(naive(found))
    if speed_ups:
        notes.append(f"Against naive loops: {' '.join(speed_ups)}")
    numbers = ", ".join(f"{name} {number}" for name, number in versions.items())
    lines += [
        " ".join(notes),
        "",
        f"`{results['command']}` on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['isa']}, {results['date']}; {numbers}.",
    ]
    return "\n".join(lines)


def text(rows):
    """Every layer and operation in a line, for the terminal."""
    lines = [
        f"{'layer, operation':46} {'fastconv':>24} {'':>9} {'rate':>11} "
        f"{'best peer':>22} {'':>9} {'ratio':>7}"
    ]
    for (family, layer, op), group in groups(rows).items():
        row = ours(group)
        if row is None:
            continue
        rate = ""
        if family == "Convolution":
            rate = f"{row['gflops']:.1f} GF/s"
        elif family == "Pooling":
            rate = f"{row['gbytes']:.1f} GB/s"
        peer = next((r for r in group if r["contender"] == row["best_peer"]), None)
        line = f"{f'{layer}, {op}':46} {row['contender']:>24} {duration(row['seconds']):>9} "
        line += f"{rate:>11} "
        if peer is None:
            line += f"{'none installed':>22}"
        else:
            line += f"{peer['contender']:>22} {duration(peer['seconds']):>9} "
            line += f"{times(row['ratio']):>7}"
        lines.append(line)
    return "\n".join([*lines, *naive(groups(rows))])
