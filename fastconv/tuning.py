"""Measure which method is the fastest for a convolution, and let "auto" go by that."""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastconv import grad, ops, registry
from fastconv._arrays import as_array, dtypes
from fastconv.config import BACKENDS, METHODS, cache_folder, config, current
from fastconv.packing import pack_conv2d
from fastconv.registry import Tuned, forget_tuned
from fastconv.spec import ConvSpec, conv_spec, shape_of

__all__ = ["Tuning", "forget_tuned", "load_tuned", "tune"]

OPS = ("conv2d", "conv2d_input", "conv2d_weight")
# times what a sum of products may be off by: the most inexact method of "auto" stays within
SLACK = 16
_timer = time.perf_counter


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `tune` measured.

    Attributes
    ----------
    op : str
    method, backend : str
        The fastest, which "auto" runs from now on.
    seconds : dict of str to float
        Median time of one call by method, the fastest first.
    before : str
        The method that "auto" would have run.
    """

    op: str
    method: str
    backend: str
    seconds: dict[str, float]
    before: str

    def __str__(self) -> str:
        best = self.seconds[self.method]
        times = ", ".join(
            f"{method} {seconds * 1e6:.3g} us ({seconds / best:.2f})"
            for method, seconds in self.seconds.items()
        )
        was = "" if self.before == self.method else f", was {self.before}"
        return f"{self.op}: {self.backend} {self.method}{was}; {times}"

    __repr__ = __str__


def _calls(op, spec, layout, packed, backend, rows):
    """{method: a call of the public function}, all with the same random operands."""
    rng = np.random.default_rng(0)

    def random(shape):
        return rng.uniform(-1, 1, shape).astype(spec.dtype)

    def image(shape):
        n, c, h, w = shape
        return random(shape if layout == "NCHW" else (n, h, w, c))

    x, dy, w = image(spec.input_shape), image(spec.output_shape), random(spec.weight_shape)
    padding = (spec.padding[:2], spec.padding[2:])
    options = (spec.stride, padding, spec.dilation, spec.groups)
    if op == "conv2d":
        weight = pack_conv2d(w) if packed else w
        function, arguments, out = ops.conv2d, (x, weight, None), dy
    elif op == "conv2d_input":
        function, arguments, out = grad.conv2d_input, (x.shape, w, dy), x
    else:
        function, arguments, out = grad.conv2d_weight, (x, w.shape, dy), w
    out = np.empty_like(out)

    def call_of(row):
        return lambda: function(
            *arguments, *options, layout=layout, method=row.method, backend=backend, out=out
        )

    return {row.method: call_of(row) for row in rows}


def _check_agreement(op, spec, calls, base):
    """Raise where a method's result is not that of the others."""
    length = {
        "conv2d": spec.C // spec.groups * spec.R * spec.S,
        "conv2d_input": spec.K // spec.groups * spec.R * spec.S,
        "conv2d_weight": spec.N * spec.P * spec.Q,
    }[op]
    allowed = SLACK * length * float(np.finfo(spec.dtype).eps)
    expected = calls[base]().copy()
    for method, call in calls.items():
        error = float(np.max(np.abs(call() - expected), initial=0.0))
        if not error <= allowed:
            raise RuntimeError(
                f"tune: {method!r} and {base!r} differ by {error:.3g} for this {op}, "
                f"allowed {allowed:.3g}; this is a bug in fastconv, nothing was changed"
            )


def tune(
    op,
    input_shape,
    weight_shape,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    dtype=np.float32,
    layout="NCHW",
    packed=False,
    backend=None,
    rounds=7,
    save=False,
):
    """Measure all methods for a convolution; from now on "auto" runs the fastest.

    All methods that "auto" chooses from are checked to agree, then timed in turn, round by round.
    The choice holds in this process, for this shape, dtype, backend and instruction set; for any
    number of threads, so that results do not depend on it.

    Parameters
    ----------
    op : {"conv2d", "conv2d_input", "conv2d_weight"}
    input_shape : tuple of int
        (N, C, H, W) or (C, H, W); with `layout` "NHWC" (N, H, W, C) or (H, W, C).
    weight_shape : tuple of int
        (K, C / groups, R, S).
    stride, padding, dilation, groups
        As in `conv2d`.
    dtype : dtype
    layout : {"NCHW", "NHWC"}
        Of the arrays measured with; the choice holds for both.
    packed : bool
        For calls of `conv2d` with a weight from `pack_conv2d`, and for layers in evaluation mode.
        They have a choice of their own.
    backend : str, optional
    rounds : int
        Samples of each method.
    save : bool
        Whether to add the choice to those on disk, for `load_tuned`.

    Returns
    -------
    Tuning
        Printing it gives the times.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.
    RuntimeError
        When two methods do not agree.

    Examples
    --------
    >>> import fastconv as fc
    >>> found = fc.tune("conv2d", (1, 1, 6, 6), (2, 1, 3, 3), backend="reference", rounds=1)
    >>> found.method, list(found.seconds)
    ('direct', ['direct'])
    >>> fc.forget_tuned()
    """
    if op not in OPS:
        raise ValueError(f"op: expected one of {', '.join(OPS)}, got {op!r}")
    if packed and op != "conv2d":
        raise ValueError(f"packed: expected False, {op} takes no packed weight")
    if layout not in ("NCHW", "NHWC"):
        raise ValueError(f"layout: expected NCHW or NHWC, got {layout!r}")
    if isinstance(rounds, bool) or not isinstance(rounds, (int, np.integer)):
        raise TypeError(f"rounds: expected an integer, got {type(rounds).__name__} {rounds!r}")
    if rounds < 1:
        raise ValueError(f"rounds: expected at least 1, got {rounds}")
    dtype, _ = dtypes(as_array("dtype", np.empty(0, dtype)))
    shape = (1, *shape_of("input_shape", input_shape, 3, 4))[-4:]
    if layout == "NHWC":
        shape = (shape[0], shape[3], shape[1], shape[2])
    weight_shape = shape_of("weight_shape", weight_shape, 4)
    spec = conv_spec(shape, weight_shape, stride, padding, dilation, groups, dtype)
    saved = _read(_file()) if save else []  # what is wrong with it shows before the work
    settings = current()
    backend = backend or settings.backend
    rows = registry.candidates(op, spec, backend)
    before = registry.choose(op, spec, "auto", backend, bool(packed)).method
    calls = _calls(op, spec, layout, packed, backend, rows)
    _check_agreement(op, spec, calls, before if before in calls else rows[0].method)
    seconds = _measured(calls, int(rounds))
    method = next(iter(seconds))
    registry.keep_tuned(op, spec, backend, settings.isa, bool(packed), Tuned(method, seconds))
    if save:
        mine = _entry(op, spec, backend, bool(packed), method, seconds)
        others = [entry for entry in saved if _key(entry) != _key(mine)]
        _write(_file(), [*others, mine])
    return Tuning(op, method, backend, seconds, before)


def _measured(calls, rounds):
    """Median seconds by method, the fastest first."""
    from fastconv.bench.timing import Contender, interleaved

    made = [Contender(method, "fastconv", call, list) for method, call in calls.items()]
    measurement = interleaved(made, rounds, timer=_timer)
    return dict(sorted(((m, measurement.median(m)) for m in calls), key=lambda pair: pair[1]))


# --- on disk -------------------------------------------------------------------------------------


def _file() -> Path:
    return cache_folder() / "tuned.json"


def _here() -> dict[str, Any]:
    """What a measurement holds for, beside the convolution: this machine, this fastconv."""
    own = config()
    return {"cpu": own["cpu"], "fastconv": own["fastconv"], "threads": own["threads"]}


def _entry(op, spec, backend, packed, method, seconds):
    return {
        "op": op,
        "input_shape": spec.input_shape,
        "weight_shape": spec.weight_shape,
        "stride": spec.stride,
        "padding": (spec.padding[:2], spec.padding[2:]),
        "dilation": spec.dilation,
        "groups": spec.groups,
        "dtype": spec.dtype.name,
        "packed": packed,
        "backend": backend,
        "isa": config().get("isa"),
        **_here(),
        "method": method,
        "seconds": seconds,
    }


def _key(entry) -> str:
    return json.dumps({k: v for k, v in entry.items() if k not in ("method", "seconds")})


def _read(path: Path) -> list[dict]:
    """The entries of a file; none where there is no file."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON written by fastconv.tune: {error}") from None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: expected a list of choices written by fastconv.tune")
    for entry in entries:
        _parsed(entry, path)
    return entries


def _parsed(entry: dict, path: Path) -> tuple[ConvSpec, Tuned]:
    """The spec and the choice of an entry."""
    try:
        names = ("input_shape", "weight_shape", "stride", "padding", "dilation", "groups")
        spec = conv_spec(*(entry[name] for name in names), np.dtype(entry["dtype"]))
        seconds = {str(name): float(value) for name, value in dict(entry["seconds"]).items()}
        tuned = Tuned(entry["method"], seconds)
        for name in ("op", "packed", "backend", "isa", *_here()):
            entry[name]  # a KeyError names what is not there
        if tuned.method not in seconds:
            raise ValueError(f"no time of {tuned.method!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: expected choices written by fastconv.tune, got {entry!r} ({error})"
        ) from None
    return spec, tuned


def _write(path: Path, entries: list[dict]) -> None:
    """Write beside, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"[\n{lines}\n]\n")
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def load_tuned(path=None):
    """Take over the choices that `tune` saved.

    Those of another processor, version of fastconv or number of threads are passed over, and so
    are methods, backends and instruction sets that are not there, or that "auto" would not choose.

    Parameters
    ----------
    path : path-like, optional
        Default: where `tune` saves, ``fastconv/tuned.json`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.

    Returns
    -------
    int
        How many choices hold now because of the file; 0 where there is none by default.

    Raises
    ------
    FileNotFoundError
        When a file that was named is not there.
    ValueError
        When the file is not one of `tune`'s; it is named, and nothing is taken over.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.load_tuned() >= 0
    True
    >>> fc.forget_tuned()
    """
    if path is not None and not Path(path).exists():
        raise FileNotFoundError(f"path: {os.fspath(path)!r} does not exist")
    path = _file() if path is None else Path(path)
    here, taken = _here(), 0
    isas = config().get("isa available", [])
    for entry in _read(path):
        spec, tuned = _parsed(entry, path)
        op, backend, method = entry["op"], entry["backend"], tuned.method
        if op not in OPS or backend not in BACKENDS or method not in METHODS:
            continue
        if any(entry[name] != value for name, value in here.items()):
            continue
        if entry["isa"] not in (None, *isas) or registry.why_missing(backend) is not None:
            continue
        rows = registry.implementations(op, backend)
        if any(row.method == method and row.supports(spec) is None for row in rows):
            registry.keep_tuned(op, spec, backend, entry["isa"], entry["packed"] is True, tuned)
            taken += 1
    return taken
