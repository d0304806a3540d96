"""Which implementations there are, and which one a call gets.

Each backend lists its rows (`ROWS`, a tuple of `Impl`); a backend is imported when it is first
asked for. A row says what it can serve and what it would cost; `choose` takes the cheapest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from fastconv.config import BACKENDS, METHODS, current

__all__ = ["Explanation", "Impl", "choose", "implementations"]

# what a backend needs beyond NumPy, for the message when it cannot be imported
_REMEDY = {
    "native": "install a wheel of fastconv, or build it in its source tree: pip install -e .",
    "numba": "install it: pip install 'fastconv[numba]'",
    "reference": "it is part of fastconv: reinstall it",
}


@dataclass(frozen=True, slots=True, eq=False)
class Impl:
    """One implementation: a row of the registry.

    Attributes
    ----------
    op : str
        "conv2d", "conv2d_input", "max_pool2d", ...
    method, backend : str
    supports : callable
        ``supports(spec)`` is None, or the reason why the spec cannot be served.
    cost : callable
        ``cost(spec)``, comparable among the methods of one backend.
    run : callable
        ``run(spec, *arrays, out, ...)`` writes into ``out``; ops.py has checked everything.
    note : callable, optional
        ``note(spec)`` is a remark for `explain`, or None.
    """

    op: str
    method: str
    backend: str
    supports: Callable[[Any], str | None]
    cost: Callable[[Any], float]
    run: Callable[..., None]
    note: Callable[[Any], str | None] = lambda spec: None

    def __str__(self) -> str:
        return f"{self.backend} {self.method}"


@cache
def _rows(backend: str) -> dict[str, tuple[Impl, ...]]:
    try:
        rows = import_module(f"fastconv.backends.{backend}").ROWS
    except ImportError as error:
        raise ImportError(
            f"backend {backend!r} cannot be imported ({error}); {_REMEDY[backend]}"
        ) from error
    by_op: dict[str, tuple[Impl, ...]] = {}
    for row in rows:
        by_op[row.op] = (*by_op.get(row.op, ()), row)
    return by_op


def require(backend: str) -> None:
    """Import a backend.

    Raises
    ------
    ImportError
        Saying what to install, when it cannot be imported.

    Examples
    --------
    >>> require("reference")
    """
    _rows(_known_backend(backend))


def why_missing(backend: str) -> str | None:
    """Why a backend cannot be used here; None when it can.

    Examples
    --------
    >>> why_missing("reference") is None
    True
    """
    try:
        _rows(backend)
    except ImportError as error:
        return str(error)
    return None


def implementations(op: str | None = None, backend: str | None = None) -> tuple[Impl, ...]:
    """All rows, or those of one op or backend; backends that cannot be imported are left out.

    Examples
    --------
    >>> [str(row) for row in implementations("conv2d", "reference")]
    ['reference direct']
    """
    found = []
    for name in BACKENDS if backend is None else (_known_backend(backend),):
        if backend is None and why_missing(name) is not None:
            continue
        for row_op, rows in _rows(name).items():
            if op in (None, row_op):
                found.extend(rows)
    return tuple(found)


def _known_backend(backend: str) -> str:
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(BACKENDS)}, got {backend!r}")
    return backend


def choose(op: str, spec: Any, method: str = "auto", backend: str | None = None) -> Impl:
    """The implementation that serves a call.

    Parameters
    ----------
    op : str
    spec : ConvSpec, PoolSpec, ...
    method : str
        "auto" takes the cheapest one that can serve the call.
    backend : str, optional
        Default: that of `using` or ``FASTCONV_BACKEND``, else "native".

    Returns
    -------
    Impl

    Raises
    ------
    ValueError
        When the name is unknown, or what was named cannot serve the call; the message says
        which can.
    ImportError
        When the backend cannot be imported.
    """
    settings = current()
    if method == "auto" and settings.method != "auto":
        method = _block_method(op, settings.method)
    return _choose(op, spec, method, backend or settings.backend, settings.isa, settings.winograd)


def _block_method(op: str, method: str) -> str:
    # `using(method=)` binds the ops that have methods: pools and the bias gradient have one each
    return method if op in ("conv2d", "conv2d_input", "conv2d_weight") else "auto"


def offer(op: str, spec: Any) -> Impl | None:
    """The row of the backend in use that serves an op which not every backend has, or None.

    Examples
    --------
    >>> offer("no such op", None) is None
    True
    """
    settings = current()
    return _offer(op, spec, settings.backend, settings.method, settings.isa)


@lru_cache(maxsize=4096)
def _offer(op: str, spec: Any, backend: str, method: str, isa: str | None) -> Impl | None:
    for row in _rows(backend).get(op, ()):
        if method in ("auto", row.method) and row.supports(spec) is None:
            return row
    return None


@lru_cache(maxsize=4096)
def _choose(op: str, spec: Any, method: str, backend: str, isa: str | None, winograd: str) -> Impl:
    # `isa` is part of the key because costs depend on its vectors, `winograd` because it forbids
    candidates = _rows(_known_backend(backend)).get(op, ())
    if method == "auto":
        usable = [row for row in candidates if row.supports(spec) is None]
        if usable:
            return min(usable, key=lambda row: row.cost(spec))
        reasons = "; ".join(f"{row.method}: {row.supports(spec)}" for row in candidates)
        raise ValueError(f"backend: {backend!r} cannot serve this {op} ({reasons})")
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    for row in candidates:
        if row.method == method:
            reason = row.supports(spec)
            if reason is None:
                return row
            break
    else:
        reason = f"backend {backend!r} has no such method for {op}"
    usable = [str(r) for r in implementations(op) if r.supports(spec) is None]
    raise ValueError(
        f"method: {method!r} cannot serve this {op}: {reason}; these can: {', '.join(usable)}"
    )


@dataclass(frozen=True, slots=True)
class Explanation:
    """What `fastconv.explain` found.

    Attributes
    ----------
    op : str
    spec : ConvSpec, PoolSpec or ArraySpec
    chosen : Impl
        What would run.
    passed_over : tuple of (Impl, str)
        The other rows, each with the reason.
    missing : tuple of (str, str)
        Backends that cannot be imported, each with the reason.
    """

    op: str
    spec: Any
    chosen: Impl
    passed_over: tuple[tuple[Impl, str], ...]
    missing: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.chosen} runs"]
        note = self.chosen.note(self.spec)
        if note is not None:
            lines.append(f"  it {note}")
        lines += [f"  not {row}: {reason}" for row, reason in self.passed_over]
        lines += [f"  not {backend}: {reason}" for backend, reason in self.missing]
        return "\n".join(lines)

    __repr__ = __str__


def explain(op: str, spec: Any, method: str = "auto", backend: str | None = None) -> Explanation:
    """The choice for a spec, and why the other rows were passed over."""
    chosen = choose(op, spec, method, backend)
    if method == "auto":
        method = _block_method(op, current().method)
    others = []
    for row in implementations(op):
        if row is chosen:
            continue
        reason = row.supports(spec)
        if reason is None and row.backend != chosen.backend:
            reason = f"backend {chosen.backend!r} is in use"
        elif reason is None and method != "auto":
            reason = f"method {method!r} was asked for"
        elif reason is None:
            share = row.cost(spec) / chosen.cost(spec)
            reason = f"about {share:.2g} times the cost of {chosen.method}"
        others.append((row, reason))
    missing = tuple((name, reason) for name in BACKENDS if (reason := why_missing(name)))
    return Explanation(op, spec, chosen, tuple(others), missing)
