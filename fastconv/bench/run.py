"""A run: which problems, measured, as rows; the same for `pytest bench/` and ``fastconv bench``."""

from __future__ import annotations

import copy
import os
from dataclasses import replace
from datetime import date
from fnmatch import fnmatchcase

from fastconv.bench import contenders, machine, timing
from fastconv.bench.table import numbers
from fastconv.config import config

__all__ = ["Comparison", "about", "environment", "fits", "measure", "select", "select_peers"]

# environment variables that are saved with a run
LIMITS = ("FASTCONV_ISA", "ONEDNN_MAX_CPU_ISA", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")

# of `contenders`
MAKERS = (
    "training_steps",
    "inferences",
    "single_images",
    "convolutions",
    "untuned",
    "filters",
    "poolings",
)


def share_of_peak(problem, seconds, peaks):
    """Share of the machine's peak: of its arithmetic, or for pooling of its copying.

    A pooling is compared with copying in the smallest level that holds its arrays. None where the
    work of a problem is not counted.
    """
    if isinstance(problem, contenders.ConvProblem):
        return problem.flops / seconds / 1e9 / peaks.gflops
    if isinstance(problem, contenders.PoolProblem):
        return problem.bytes / seconds / 1e9 / peaks.copy[peaks.level(problem.bytes)]
    return None


class Comparison:
    """Some contenders of one problem: checked, then timed in turn.

    Parameters
    ----------
    problem : contenders.Problem
    names : list of str
    threads, rounds : int
    timed : bool
        Whether to time them, too.

    Attributes
    ----------
    errors : dict of str to Exception
        What was wrong with a contender; it is not timed.
    measured : timing.Measurement or None
    """

    def __init__(self, problem, names, threads=1, rounds=15, timed=True):
        self.problem, self.threads = problem, threads
        self.errors, self.measured = {}, None
        self.peaks = machine.peaks(threads, str(contenders.DTYPE)) if timed else None
        modules = [
            module
            for module, (peer, _) in contenders.PEERS.items()
            if any(name.startswith(peer) for name in names)
        ]
        with timing.threads(threads, modules):
            right = []
            # a copy takes its arrays along when it goes
            own = copy.copy(problem)
            for name in names:
                try:
                    [contender] = own.contenders([name])
                    timing.verify(contender)
                    right.append(contender)
                except Exception as error:  # it is the contender's own test that fails
                    self.errors[name] = error
            if timed and right:
                self.measured = timing.interleaved(right, rounds)
        # what is reported later, without the arrays
        self.of = {c.name: replace(c, call=None, expected=None, read=None) for c in right}

    def outcome(self, name):
        """Raise what was wrong with a contender."""
        if name in self.errors:
            raise self.errors[name]

    def row(self, name):
        """What is saved of a contender."""
        problem, contender, measured = self.problem, self.of[name], self.measured
        seconds, peer = measured.median(name), measured.best_peer()
        return {
            "family": problem.family,
            "layer": problem.layer,
            "op": problem.op,
            "shape": problem.shape,
            "contender": name,
            "kind": contender.kind,
            "auto": contender.auto,
            "note": contender.note,
            "seconds": seconds,
            "gflops": problem.flops / seconds / 1e9,
            "gbytes": problem.bytes / seconds / 1e9,
            "peak_share": share_of_peak(problem, seconds, self.peaks),
            "intensity": problem.flops / problem.bytes if problem.bytes else None,
            "best_peer": peer,
            "ratio": measured.ratio(name, peer) if peer else None,
            "ratios": {other: measured.ratio(name, other) for other in measured.peers()}
            if contender.kind == "fastconv"
            else {},
            "method": contender.method,
            "rounds": len(measured.samples[name]),
            "calls_per_sample": measured.calls[name],
            "dtype": str(contenders.DTYPE),
            "threads": self.threads,
            "isa": config()["isa"] if contender.kind == "fastconv" else None,
            "allocation": contender.allocation,
        }

    def rows(self):
        """The rows of all that were timed."""
        return [self.row(name) for name in self.of] if self.measured else []


def environment():
    """The variables that are set and limit what somebody's kernels may use.

    Examples
    --------
    >>> set(environment()) <= set(LIMITS)
    True
    """
    return {name: os.environ[name] for name in LIMITS if name in os.environ}


def about(threads, command):
    """What is saved with the rows of a run: machine, versions, command, date.

    Examples
    --------
    >>> found = about(1, "fastconv bench")
    >>> sorted(found), found["machine"]["threads"]
    (['command', 'date', 'machine', 'missing', 'versions'], 1)
    """
    own = config()
    return {
        "command": command,
        "date": date.today().isoformat(),
        "machine": {
            "cpu": own["cpu"],
            "cores": os.cpu_count(),
            "isa": own.get("isa"),
            "threads": threads,
            "environment": environment(),
        },
        "versions": {
            "fastconv": own["fastconv"],
            "Python": own["python"],
            "NumPy": own["numpy"],
            **contenders.present(),
        },
        "missing": contenders.missing(),
    }


def fits(problem, layer, op="*"):
    """Whether a problem is one of those that `select` has for these two patterns.

    Examples
    --------
    >>> problem = contenders.convolutions()[0]
    >>> problem.layer, fits(problem, "core"), fits(problem, "lenet", "*gradient")
    ('LeNet conv 1', True, False)
    """
    name = f"{problem.family}: {problem.layer}".lower()
    if layer.lower() == "core":
        of_layer = problem.core
    else:
        of_layer = layer.lower() == "all" or fnmatchcase(name, f"*{layer.lower()}*")
    return of_layer and fnmatchcase(problem.op, op.lower())


def select(layers=None, ops=None, allocation="fresh"):
    """The problems whose names fit.

    Parameters
    ----------
    layers : list of str, optional
        Any part of "family: layer", in any case, ``*`` and ``?`` as in file names; "core", the
        default, and "all".
    ops : list of str, optional
        A whole operation, with the same wildcards.
    allocation : {"fresh", "out"}

    Returns
    -------
    list of contenders.Problem

    Raises
    ------
    ValueError
        When a pattern fits nothing.

    Examples
    --------
    >>> [f"{p.layer}, {p.op}" for p in select(["convolution: lenet*2"], ["*gradient"])]
    ['LeNet conv 2, input gradient', 'LeNet conv 2, weight gradient']
    """
    every = [p for maker in MAKERS for p in getattr(contenders, maker)(allocation)]
    layers = layers or ["core"]
    for layer in layers:
        if not any(fits(p, layer) for p in every):
            names = dict.fromkeys(f"{p.family}: {p.layer}" for p in every)
            raise ValueError(f"--layers: {layer!r} fits none of {', '.join(names)}")
    for op in ops or ():
        if not any(fits(p, "all", op) for p in every):
            names = dict.fromkeys(p.op for p in every)
            raise ValueError(f"--ops: {op!r} is none of {'; '.join(names)}")
    chosen = [
        p for p in every if any(fits(p, layer, op) for layer in layers for op in ops or ["*"])
    ]
    if not chosen:
        raise ValueError(
            f"--layers, --ops: no layer fits {', '.join(layers)} and has {', '.join(ops)}"
        )
    return chosen


def select_peers(names=None):
    """Names of the peers to measure.

    Parameters
    ----------
    names : list of str, optional
        Peers by name or module, or "none" alone; default: all that are installed.

    Returns
    -------
    set of str

    Raises
    ------
    ValueError
        When a peer is unknown or not installed.

    Examples
    --------
    >>> select_peers(["none"])
    set()
    """
    installed = set(contenders.present())
    if names is None:
        return installed
    if [n.lower() for n in names] == ["none"]:
        return set()
    known = {}
    for module, (name, how) in contenders.PEERS.items():
        known[module.lower()] = known[name.lower()] = (name, how)
    for given in names:
        if given.lower() not in known:
            valid = ", ".join(name for name, _ in contenders.PEERS.values())
            raise ValueError(f"--peers: expected none, or some of {valid}; got {given!r}")
        name, how = known[given.lower()]
        if name not in installed:
            raise ValueError(f"--peers: {name} is not installed ({how})")
    return {known[given.lower()][0] for given in names}


def chosen_contenders(problem, peers, baselines):
    """The problem's contenders: fastconv's, those of the peers, and the baselines if wanted.

    A peer's contenders are those whose name begins with the peer's.
    """
    others = tuple(name for name, _ in contenders.PEERS.values())
    plain = ("NumPy", "Python")
    for name in problem.makers():
        if name.startswith("fastconv"):
            yield name
        elif name.startswith(others):
            if name.startswith(tuple(peers)):
                yield name
        elif baselines or not name.startswith(plain):
            yield name


def measure(problems, threads=1, peers=None, rounds=15, baselines=False, command="", progress=None):
    """Measure problems.

    Parameters
    ----------
    problems : list of contenders.Problem
        See `select`.
    threads : int
        For everybody.
    peers : set of str, optional
        See `select_peers`.
    rounds : int
        Samples of each contender.
    baselines : bool
        Whether to measure plain NumPy and plain loops, too; they are slow.
    command : str
        What the run is said to be made by.
    progress : callable, optional
        Given a line before each problem.

    Returns
    -------
    results : dict
        What `table.read` reads: "rows", "peaks", the peers "left_out", and what `about` has.
    errors : list of str
        Contenders that failed, and why.

    Examples
    --------
    >>> results, errors = measure(select(["one image: *conv 1"]), peers=set(), rounds=1)
    >>> [row["contender"] for row in results["rows"]], errors
    (['fastconv', 'fastconv out=', 'fastconv packed'], [])
    """
    peers = select_peers() if peers is None else peers
    results, errors = about(threads, command), []
    results["left_out"] = [name for name in contenders.present() if name not in peers]
    results["peaks"] = numbers(machine.peaks(threads, str(contenders.DTYPE)).as_dict())
    results["rows"] = []
    for i, problem in enumerate(problems, 1):
        where = f"{problem.family}: {problem.layer}, {problem.op}"
        if progress is not None:
            progress(f"[{i}/{len(problems)}] {where}")
        names = list(chosen_contenders(problem, peers, baselines))
        comparison = Comparison(problem, names, threads, rounds)
        results["rows"] += [numbers(row) for row in comparison.rows()]
        errors += [f"{where}: {error}" for error in comparison.errors.values()]
    return results, errors
