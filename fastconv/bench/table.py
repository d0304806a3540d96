"""Tables of measurements: for the terminal, and in Markdown for the README."""

import json
from math import exp, log
from pathlib import Path

FAMILY_ORDER = ("Training step", "One image", "Convolution", "Untuned layer", "Pooling")
CONVOLUTIONS = ("Convolution", "Untuned layer")
PACKED, NHWC = "fastconv packed", "fastconv NHWC"
# peers whose images have their channels side by side
NOT_NCHW = ("PyTorch channels_last", "TensorFlow")
NEAR = 1.1  # times the fastest method's time that is as good
LISTED = ("Training step", "One image")  # a line for each operation instead of a column
OP_ORDER = (
    "forward", "input gradient", "weight gradient",
    "max", "max, indices", "avg", "max gradient", "avg gradient",
)  # fmt: skip


class BadRun(ValueError):
    """A file that is no saved run, or a page without a place for the table."""


def read_all(path):
    """The runs in a file: one JSON of pytest-benchmark, one of ``fastconv bench``, a list of such.

    Returns
    -------
    list of dict
        Each with "command", "date", "machine" (cpu, cores, isa, threads), "versions", "missing",
        "rows", where measured "peaks" and "cold_start".
    """
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadRun(f"{path}: not JSON ({error})") from None
    if not isinstance(saved, list):
        saved = [saved]
    if not saved:
        raise BadRun(f"{path}: not a saved run, an empty list")
    return [converted(run, path) for run in saved]


def read(path):
    """The results of the only run in a file, see `read_all`."""
    runs = read_all(path)
    if len(runs) != 1:
        raise BadRun(f"{path}: not one run, but {len(runs)}")
    return runs[0]


def read_cold_start(path):
    """The cold starts in a file that ``fastconv bench --cold-start --json`` wrote."""
    found = [run["cold_start"] for run in read_all(path) if run.get("cold_start")]
    if not found:
        raise BadRun(f"{path}: not a run with cold starts")
    return found[0]


def converted(saved, path):
    """A saved run as `read_all` promises it."""
    try:
        if "rows" in saved:
            for key in ("command", "date", "machine", "versions", "missing"):
                saved[key]  # a KeyError names what is not there
            return saved
        own = saved["machine_info"]["fastconv"]
        rows = [b["extra_info"] for b in saved["benchmarks"] if "family" in b["extra_info"]]
        results = {
            "command": own["command"],
            "date": saved["datetime"][:10],
            "machine": {name: own[name] for name in ("cpu", "cores", "isa", "threads")}
            | {"environment": own.get("environment", {})},
            "versions": {
                "fastconv": own["fastconv"],
                "Python": own["python"],
                "NumPy": own["numpy"],
                **own["peers"],
            },
            "missing": own["missing"],
            "rows": numbers(rows),
        }
        return results | ({"peaks": numbers(own["peaks"])} if "peaks" in own else {})
    except (KeyError, TypeError) as error:
        raise BadRun(
            f"{path}: not a saved run of `pytest bench/` or `fastconv bench` (no {error})"
        ) from None


def numbers(value):
    """The same with the four digits of a float that mean anything, also in what it holds.

    >>> numbers({"a": [1.23456, 2, "b"]})
    {'a': [1.235, 2, 'b']}
    """
    if isinstance(value, dict):
        return {key: numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [numbers(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def dumped(results):
    """JSON with a line for each row, so that two runs can be compared line by line."""
    rows = ",\n".join(f"  {json.dumps(row)}" for row in results["rows"])
    head = json.dumps({k: v for k, v in results.items() if k != "rows"}, indent=1)
    return head.removesuffix("\n}") + f',\n "rows": [\n{rows}\n ]\n}}\n'


def duration(seconds):
    """Seconds for people.

    >>> duration(0.0123), duration(4.5e-6), duration(999.6e-6)
    ('12.3 ms', '4.50 us', '1.00 ms')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 0.9995 or unit == "us":  # 999.6 would be printed as 1000
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
    own = [
        row for row in rows if row["kind"] == "fastconv" and row["contender"] not in (PACKED, NHWC)
    ]
    plain = [row for row in own if row["auto"]]
    return min(plain or own, key=lambda row: row["seconds"], default=None)


def packed(rows):
    """The row of a call with a packed weight; None without one."""
    return next((row for row in rows if row["contender"] == PACKED), None)


def channels_last(rows):
    """The row of a call with layout="NHWC"; None without one."""
    return next((row for row in rows if row["contender"] == NHWC), None)


def cell(rows, which=ours):
    """Our time and ratio to the best peer; `which` picks the row."""
    row = which(rows)
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


def geometric_mean(values):
    """The mean of ratios.

    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    return exp(sum(map(log, values)) / len(values))


def means(found):
    """For each list of convolutions a line of geometric means and least ratios, forward."""

    def any_layout(row):
        return row["ratio"]

    def pytorch(row):
        return row.get("ratios", {}).get("PyTorch NCHW")

    def pytorch_channels_last(row):
        return row.get("ratios", {}).get("PyTorch channels_last")

    def nchw(row):
        ratios = row.get("ratios", {}).items()
        return min((r for name, r in ratios if not name.startswith(NOT_NCHW)), default=None)

    for family in CONVOLUTIONS:
        mine = {
            key[1]: rows for key, rows in found.items() if (key[0], key[2]) == (family, "forward")
        }
        parts = []
        for title, which, of in (
            ("packed against the best peer of any layout", packed, any_layout),
            ("packed against the best NCHW peer", packed, nchw),
            ("plain against the best peer of any layout", ours, any_layout),
            ("plain against PyTorch NCHW", ours, pytorch),
            ("NHWC against PyTorch channels_last", channels_last, pytorch_channels_last),
        ):
            rows = {layer: row for layer in mine if (row := which(mine[layer]))}
            ratios = {layer: r for layer, row in rows.items() if (r := of(row)) is not None}
            # a run from before these were saved has none
            if ratios and any("ratios" in row for row in rows.values()):
                least = min(ratios, key=ratios.get)
                parts.append(
                    f"{title} {times(geometric_mean(ratios.values()))}, "
                    f"least {times(ratios[least])} ({least})"
                )
        if parts:
            yield f"{family}, forward, geometric means over {len(mine)}: {'; '.join(parts)}."


def choices(found):
    """A line on whether "auto" ran the fastest method of each layer, or one as good."""
    beyond, count = [], 0
    for (_, layer, op), rows in found.items():
        methods = [row for row in rows if row.get("method")]
        auto = next((row for row in methods if row["auto"]), None)
        if auto is None or len(methods) < 2:
            continue
        count += 1
        best = min(methods, key=lambda row: row["seconds"])
        if auto["seconds"] > NEAR * best["seconds"]:
            share = times(auto["seconds"] / best["seconds"])
            beyond.append(
                f"{layer}, {op} ({auto['method']} takes {share} as long as {best['method']})"
            )
    if count:
        rest = f"all but {len(beyond)}: {'; '.join(beyond)}" if beyond else "all"
        yield f"Of {count} choices among methods, auto's is within 10 % of the fastest in {rest}."


def position(order):
    """Sort key: the place in `order`, what is not in it at the end by name."""
    return lambda name: (order.index(name) if name in order else len(order), name)


def crossed(family, mine):
    """A table of layers by operations."""
    columns = []
    for op in sorted({op for _, _, op in mine}, key=position(OP_ORDER)):
        columns.append((op, op, ours))
        if any(packed(rows) for key, rows in mine.items() if key[2] == op):
            columns.append((f"{op}, packed", op, packed))
    yield f"| {family} | {' | '.join(title for title, _, _ in columns)} |"
    yield "| --- |" + " ---: |" * len(columns)
    for layer in dict.fromkeys(layer for _, layer, _ in mine):
        cells = [cell(mine.get((family, layer, op), []), which) for _, op, which in columns]
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
        if packed(rows):
            yield f"| {layer}, {op}, packed | {cell(rows, packed)} | {theirs} |"


def figures(results):
    """A run's tables, as Markdown lines."""
    found = groups(results["rows"])
    families = {
        family: {key: rows for key, rows in found.items() if key[0] == family}
        for family in sorted({key[0] for key in found}, key=position(FAMILY_ORDER))
    }
    for family, mine in families.items():
        yield from (listed if family in LISTED else crossed)(family, mine)
        yield ""


def notes(results):
    """What a run's figures mean and what they were measured with, as Markdown lines."""
    found = groups(results["rows"])
    machine, versions = results["machine"], results["versions"]
    threads = machine["threads"]
    peers = sorted({row["contender"] for row in results["rows"] if row["kind"] == "peer"})
    told = [
        "Time of one call, and how many times as fast as the best peer in the same run "
        f"(**ahead**, _behind_). float32, {threads} thread{'s' if threads != 1 else ''} for "
        f"everybody. Peers: {', '.join(peers) or 'none'}."
    ]
    if results["missing"]:
        told.append(f"Not installed, so not measured: {', '.join(results['missing'])}.")
    if results.get("left_out"):
        told.append(f"Left out: {', '.join(results['left_out'])}.")
    if results.get("peaks"):
        told.append(f"Highest rates measured here: {peaks_text(results['peaks'])}.")
    if any(packed(rows) for rows in found.values()):
        told.append("Packed: the weight was brought into the kernels' layout before.")
    told += [*means(found), *choices(found)]
    speed_ups = list(naive(found))
    if speed_ups:
        told.append(f"Against naive loops: {' '.join(speed_ups)}")
    yield " ".join(told)
    yield ""
    versions = ", ".join(f"{name} {number}" for name, number in versions.items())
    limits = [f"{name}={value}" for name, value in machine.get("environment", {}).items()]
    command = " ".join([*limits, results["command"]])
    yield (
        f"`{command}` on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['isa']}, {results['date']}; {versions}."
    )


def table(results):
    """The README's table of a run, as Markdown."""
    return "\n".join([*figures(results), *notes(results)])


def tables(runs):
    """The README's tables: the first run, the cold starts, the other runs folded away."""
    first, *others = runs
    parts = [table(first)]
    parts += [cold_table(run["cold_start"]) for run in runs if run.get("cold_start")][:1]
    for run in others:
        machine, threads = run["machine"], run["machine"]["threads"]
        title = f"The same with {threads} thread{'s' if threads != 1 else ''}"
        for name in ("isa", "cpu"):
            if machine[name] != first["machine"][name]:
                title += f", {machine[name]}"
        parts.append(f"<details>\n<summary>{title}</summary>\n\n{table(run)}\n\n</details>")
    return "\n\n".join(parts)


def cold_cells(row):
    """(name, size, import, first result) of a row of `coldstart.measure`."""
    return (
        f"{row['name']} {row['version']}",
        f"{row['megabytes']:.3g} MB" if row["megabytes"] < 1000 else f"{row['megabytes']:,.0f} MB",
        duration(row["import_seconds"]),
        duration(row["first_seconds"]),
    )


def cold_notes(cold):
    """What the figures of a cold start mean."""
    return (
        "Size of the installed distribution alone; then, in a fresh process and after "
        f"{duration(cold['start_seconds'])} for Python and NumPy, the time to import it and to "
        f"have imported it and computed a first convolution ({cold['what']}; median of "
        f"{cold['rounds']} processes)."
    )


def cold_table(cold):
    """The cold starts, as Markdown."""
    lines = ["| Cold start | installed | import | first result |", "| --- | ---: | ---: | ---: |"]
    for row in cold["rows"]:
        lines.append(f"| {' | '.join(cold_cells(row))} |")
    return "\n".join([*lines, "", cold_notes(cold)])


def cold_text(cold):
    """The cold starts, for the terminal."""
    head = ("cold start", "installed", "import", "first result")
    return "\n".join(
        [
            *(
                f"{name:26} {size:>10} {imported:>10} {first:>13}"
                for name, size, imported, first in [head, *map(cold_cells, cold["rows"])]
            ),
            cold_notes(cold),
        ]
    )


def peaks_text(peaks):
    """A line on `machine.peaks`, as saved."""
    by = max(peaks["gflops_by"], key=peaks["gflops_by"].get)
    copy = ", ".join(f"{rate:.0f} in {level}" for level, rate in peaks["copy"].items())
    return f"{peaks['gflops']:.0f} GFLOP/s ({by}), copying GB/s {copy}"


def about_text(results):
    """A line on what a run's figures were measured with."""
    machine, rows = results["machine"], results["rows"]
    threads = machine["threads"]
    outputs = dict.fromkeys(row["allocation"] for row in rows if row["kind"] == "fastconv")
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['isa']}; "
        f"{', '.join(dict.fromkeys(row['dtype'] for row in rows))}, "
        f"{threads} thread{'s' if threads != 1 else ''} for everybody, "
        f"fastconv's outputs: {', '.join(outputs)}; {results['date']}"
    )


def percent(share):
    """A share for people.

    >>> percent(0.666), percent(None)
    ('67%', '')
    """
    return "" if share is None else f"{100 * share:.0f}%"


def text(rows):
    """Every layer and operation in a line, for the terminal."""
    lines = [
        f"{'layer, operation':46} {'fastconv':>24} {'':>9} {'rate':>11} {'peak':>5} "
        f"{'best peer':>22} {'':>9} {'ratio':>7}"
    ]
    found = groups(rows)
    lined = [(key, rows, row) for key, rows in found.items() for row in (ours(rows), packed(rows))]
    for (family, layer, op), group, row in lined:
        if row is None:
            continue
        rate = ""
        if family in CONVOLUTIONS:
            rate = f"{row['gflops']:.1f} GF/s"
        elif family == "Pooling":
            rate = f"{row['gbytes']:.1f} GB/s"
        peer = next((r for r in group if r["contender"] == row["best_peer"]), None)
        line = f"{f'{layer}, {op}':46} {row['contender']:>24} {duration(row['seconds']):>9} "
        line += f"{rate:>11} {percent(row.get('peak_share')):>5} "
        if peer is None:
            line += f"{'none measured':>22}"
        else:
            line += f"{peer['contender']:>22} {duration(peer['seconds']):>9} "
            line += f"{times(row['ratio']):>7}"
        lines.append(line)
    return "\n".join([*lines, *means(found), *choices(found), *naive(found)])
