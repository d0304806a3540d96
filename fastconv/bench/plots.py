"""Pictures of a run: how far each layer is from what the machine reaches, and from the peers.

The functions return the Axes that they drew on; they need matplotlib.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fastconv.bench import table
from fastconv.plot._figure import BLUE, GREY, ORANGE, figure, save

__all__ = ["bars", "draw", "require", "roofline"]

OURS, THEIRS, ROOF = BLUE, ORANGE, GREY
NAMED = 12  # points that get their names; more of them would hide each other


def require() -> None:
    """Raise ImportError, with the remedy, where matplotlib is not installed."""
    figure(1, 1)


def roofline(rows, peaks, axes=None):
    """Rates against operations for each byte, under what the machine reaches.

    Parameters
    ----------
    rows : list of dict
        Rows of a run; those whose work is not counted are left out.
    peaks : dict
        `machine.Peaks` as plain data.
    axes : matplotlib Axes, optional
        Default: those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    if axes is None:
        axes = figure(8.4, 5.4).subplots()
    ours, theirs, names = [], [], []
    for (_, layer, op), group in table.groups(rows).items():
        row = table.ours(group)
        if row is None or not row.get("intensity") or not row["gflops"]:
            continue
        ours.append((row["intensity"], row["gflops"]))
        names.append(f"{layer}, {op}")
        theirs += [
            (row["intensity"], r["gflops"]) for r in group if r["contender"] == row["best_peer"]
        ]
    found = [x for x, _ in ours] or [1.0]
    x = np.geomspace(min(found) / 2, max(found) * 2, 200)
    for (level, rate), style in zip(peaks["copy"].items(), ("-", "--", ":"), strict=False):
        label = f"copying in {level}: {rate:.0f} GB/s"
        axes.plot(x, np.minimum(x * rate, peaks["gflops"]), style, color=ROOF, lw=1.2, label=label)
    axes.annotate(
        f"{peaks['gflops']:.0f} GFLOP/s",
        (x[-1], peaks["gflops"]),
        textcoords="offset points",
        xytext=(0, 4),
        ha="right",
        color=ROOF,
    )
    if theirs:
        axes.plot(*zip(*theirs, strict=True), "o", mfc="none", color=THEIRS, label="best peer")
    if ours:
        axes.plot(*zip(*ours, strict=True), "o", color=OURS, markersize=4.5, label="fastconv")
    if len(ours) <= NAMED:
        for point, name in zip(ours, names, strict=True):
            axes.annotate(name, point, textcoords="offset points", xytext=(6, -3), fontsize=7)
    threads = peaks["threads"]
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="operations for each byte of inputs and outputs",
        ylabel="GFLOP/s",
        title=f"{peaks['dtype']}, {threads} thread{'s' if threads != 1 else ''}",
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return axes


def bars(rows, axes=None):
    """A bar for each layer and operation: how many times as fast as the best peer.

    Where no peer was measured the bars are shares of the machine's peak.

    Parameters
    ----------
    rows : list of dict
        Rows of a run.
    axes : matplotlib Axes, optional
        Default: those of a new figure.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    own = {
        f"{family}: {layer}, {op}": table.ours(group)
        for (family, layer, op), group in table.groups(rows).items()
    }
    key = "ratio" if any(row and row["ratio"] is not None for row in own.values()) else "peak_share"
    own = {name: row for name, row in own.items() if row and row.get(key) is not None}
    if axes is None:
        axes = figure(8.4, 1.2 + 0.2 * max(4, len(own))).subplots()
    values = [row[key] for row in own.values()]
    places = np.arange(len(values))
    if key == "ratio":
        # on a logarithmic axis twice as fast and half as fast are equally far from the peer
        lengths = np.log2(values)
        colours = [OURS if value >= 1 else THEIRS for value in values]
        axes.barh(places, lengths, color=colours, height=0.72)
        low, high = int(np.floor(min(lengths))), int(np.ceil(max(lengths)))
        ticks = np.arange(min(low, -1), max(high, 1) + 1)
        axes.set_xticks(ticks, [table.times(2.0**n) for n in ticks])
        axes.axvline(0, color=ROOF, lw=1)
        axes.set_xlabel("times as fast as the best peer")
        texts = [table.times(value) for value in values]
    else:
        lengths = 100 * np.array(values)
        axes.barh(places, lengths, color=OURS, height=0.72)
        axes.set_xlabel("per cent of the highest rate measured on this machine")
        texts = [table.percent(value) for value in values]
    for place, length, text in zip(places, lengths, texts, strict=True):
        axes.annotate(
            text,
            (length, place),
            textcoords="offset points",
            xytext=(3 if length >= 0 else -3, 0),
            ha="left" if length >= 0 else "right",
            va="center",
            fontsize=7,
        )
    axes.set_yticks(places, list(own), fontsize=7)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw(results, folder: str | os.PathLike) -> list[Path]:
    """Write roofline.png and bars.png of a run.

    Parameters
    ----------
    results : dict
        A run with its "peaks", see `run.measure`.
    folder : path

    Returns
    -------
    list of Path

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    rows, folder = results["rows"], Path(folder)
    return [
        save(roofline(rows, results["peaks"]), folder / "roofline.png"),
        save(bars(rows), folder / "bars.png"),
    ]
