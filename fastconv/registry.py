"""Which implementations there are, and which one a call gets.

Each backend lists its rows (`ROWS`, a tuple of `Impl`); a backend is imported when it is first
asked for. A row says what it can serve and what it would cost; `choose` takes the cheapest, or what
`fastconv.tune` found to be the fastest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from fastconv.config import BACKENDS, METHODS, current

__all__ = ["Cost", "Explanation", "Impl", "Tuned", "choose", "implementations"]

# what a backend needs beyond NumPy, for the message when it cannot be imported
_REMEDY = {
    "native": "install a wheel of fastconv, or build it in its source tree: pip install -e .",
    "numba": "install it: pip install 'fastconv[numba]'",
    "reference": "it is part of fastconv: reinstall it",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call is expected to take on one core, made of what can be counted.

    It is there to compare methods: `cycles` is no promise.

    Attributes
    ----------
    flops : float
        Multiplications and additions that the kernels execute, those of empty lanes and of padding
        included.
    rate : float
        How many they execute in a cycle while nothing else holds them up.
    moved : float
        Cycles for the data that go through scratch: staged, transposed, transformed.
    packing : float
        Cycles for arranging the weight, which a packed one saves.
    form : str
        How the method goes about it, where there is a choice.

    Examples
    --------
    >>> cost = Cost(flops=1e6, rate=32, moved=3000)
    >>> cost.cycles, float(cost)
    (34250.0, 34250.0)
    >>> print(cost)
    1 Mflop at 32 a cycle + 3,000 cycles for data = 34,250 cycles
    """

    flops: float
    rate: float
    moved: float = 0.0
    packing: float = 0.0
    form: str = ""

    @property
    def cycles(self) -> float:
        """All of it, without the packing."""
        return self.flops / self.rate + self.moved

    def __float__(self) -> float:
        return float(self.cycles)

    def __str__(self) -> str:
        text = f"{self.flops / 1e6:.3g} Mflop at {self.rate:.3g} a cycle"
        if self.moved:
            text += f" + {self.moved:,.0f} cycles for data"
        text += f" = {self.cycles:,.0f} cycles"
        if self.packing:
            text += f" (and {self.packing:,.0f} to pack the weight)"
        return f"{self.form}: {text}" if self.form else text


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
        ``cost(spec)``, a `Cost` or a number, comparable among the methods of one backend; without
        the packing of the weight where there is a `pack`.
    run : callable
        ``run(spec, *arrays, out, ...)`` writes into ``out``; ops.py has checked everything. With
        ``packed=``, what `pack` made, it need not look at the weight.
    note : callable, optional
        ``note(spec)`` is a remark for `explain`, or None.
    pack : callable, optional
        ``pack(spec, weight, layout)`` is the weight as the kernels take it for arrays of this
        layout, or None where they take it as it is. Of "conv2d" only.
    pack_cost : callable, optional
        ``pack_cost(spec)``: what packing adds to the cost of a call with a plain weight.
    whole : bool
        Whether whole numbers give whole numbers up to 2**53; "auto" takes no other for integers.
    packing_key : callable, optional
        ``packing_key(spec, layout)``: where keys, groups and dtype are equal, calls share what
        `pack` made.
    prepare : callable, optional
        ``prepare(spec, settings, ...)``: what a call that comes again runs, see `fastconv._calls`;
        or None where `run` is as good.
    """

    op: str
    method: str
    backend: str
    supports: Callable[[Any], str | None]
    cost: Callable[[Any], Cost | float]
    run: Callable[..., None]
    note: Callable[[Any], str | None] = lambda spec: None
    pack: Callable[[Any, Any, str], Any] | None = None
    pack_cost: Callable[[Any], float] = lambda spec: 0.0
    packing_key: Callable[[Any, str], Hashable] = lambda spec, layout: None
    whole: bool = True
    prepare: Callable[..., Any] | None = None

    def cost_of_call(self, spec: Any, packed: bool = False) -> float:
        """The cost of a call with a weight that was packed beforehand, or with a plain one."""
        cost = float(self.cost(spec))
        return cost if packed and self.pack is not None else cost + self.pack_cost(spec)

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


@dataclass(frozen=True, slots=True)
class Tuned:
    """What `fastconv.tune` found.

    Attributes
    ----------
    method : str
        The fastest.
    seconds : dict of str to float
        What one call took, by method.
    """

    method: str
    seconds: dict[str, float]


# the generation makes `_choose` and `fastconv._calls` forget what was chosen before
_tuned: dict[tuple, Tuned] = {}
_generation = 0


def keep_tuned(op: str, spec: Any, backend: str, isa: str | None, packed: bool, tuned: Tuned):
    """Let "auto" go by a measurement from now on."""
    global _generation
    _tuned[_tuned_key(op, spec, backend, isa, packed)] = tuned
    _generation += 1


def forget_tuned() -> None:
    """Forget all that `fastconv.tune` found in this process: "auto" goes by the costs again.

    What was saved on disk stays there.

    Examples
    --------
    >>> forget_tuned()
    """
    global _generation
    _tuned.clear()
    _generation += 1


def _tuned_key(op: str, spec: Any, backend: str, isa: str | None, packed: bool) -> tuple:
    # by content: a spec that fell out of its cache is made again
    if isa is None and why_missing("native") is None:
        isa = import_module("fastconv.backends.native").BEST_ISA
    return op, spec.geometry, spec.dtype, backend, isa, packed


def _find_tuned(op: str, spec: Any, backend: str, isa: str | None, packed: bool) -> Tuned | None:
    if not _tuned or not hasattr(spec, "geometry"):
        return None
    return _tuned.get(_tuned_key(op, spec, backend, isa, packed))


def candidates(op: str, spec: Any, backend: str) -> list[Impl]:
    """The rows that "auto" chooses from.

    Examples
    --------
    >>> from fastconv.spec import conv_spec
    >>> spec = conv_spec((1, 1, 4, 4), (1, 1, 3, 3))
    >>> [str(row) for row in candidates("conv2d", spec, "reference")]
    ['reference direct']
    """
    rows = _rows(_known_backend(backend)).get(op, ())
    usable = [row for row in rows if row.supports(spec) is None]
    if not usable:
        reasons = "; ".join(f"{row.method}: {row.supports(spec)}" for row in rows)
        raise ValueError(f"backend: {backend!r} cannot serve this {op} ({reasons})")
    return usable


def choose(
    op: str,
    spec: Any,
    method: str = "auto",
    backend: str | None = None,
    packed: bool = False,
    whole: bool = False,
) -> Impl:
    """The implementation that serves a call.

    Parameters
    ----------
    op : str
    spec : ConvSpec, PoolSpec, ...
    method : str
        "auto" takes the one that `fastconv.tune` found, else the cheapest that can serve the call.
    backend : str, optional
        Default: that of `using` or ``FASTCONV_BACKEND``, else "native".
    packed : bool
        Whether the weight was packed beforehand: then that costs nothing.
    whole : bool
        Whether the arrays hold integers, whose results are to be exact.

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
    backend = backend or settings.backend
    return _choose(
        op, spec, method, backend, settings.isa, settings.winograd, packed, whole, _generation
    )


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
def _choose(
    op: str,
    spec: Any,
    method: str,
    backend: str,
    isa: str | None,
    winograd: str,
    packed: bool = False,
    whole: bool = False,
    generation: int = 0,
) -> Impl:
    # `isa` is part of the key because costs depend on its vectors, `winograd` because it forbids
    if method == "auto":
        usable = [row for row in candidates(op, spec, backend) if row.whole or not whole]
        tuned = _find_tuned(op, spec, backend, isa, packed)
        for row in usable:
            if tuned is not None and row.method == tuned.method:
                return row
        return min(usable, key=lambda row: row.cost_of_call(spec, packed))
    rows = _rows(_known_backend(backend)).get(op, ())
    if method not in METHODS:
        raise ValueError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    for row in rows:
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
    tuned : Tuned or None
        The measurement that the choice goes by.
    """

    op: str
    spec: Any
    chosen: Impl
    passed_over: tuple[tuple[Impl, str], ...]
    missing: tuple[tuple[str, str], ...]
    tuned: Tuned | None = None

    def __str__(self) -> str:
        lines = [f"{self.op}: {self.chosen} runs"]
        if self.tuned is not None:
            took = self.tuned.seconds[self.chosen.method]
            lines.append(f"  tuned: it took {took * 1e6:.3g} us when measured")
        cost = self.chosen.cost(self.spec)
        if isinstance(cost, Cost):
            lines.append(f"  {cost}")
        note = self.chosen.note(self.spec)
        if note is not None:
            lines.append(f"  it {note}")
        lines += [f"  not {row}: {reason}" for row, reason in self.passed_over]
        lines += [f"  not {backend}: {reason}" for backend, reason in self.missing]
        return "\n".join(lines)

    __repr__ = __str__


def explain(
    op: str, spec: Any, method: str = "auto", backend: str | None = None, packed: bool = False
) -> Explanation:
    """The choice for a spec, and why the other rows were passed over."""
    chosen = choose(op, spec, method, backend, packed)
    if method == "auto":
        method = _block_method(op, current().method)
    tuned = None
    if method == "auto":
        tuned = _find_tuned(op, spec, chosen.backend, current().isa, packed)
        if tuned is not None and tuned.method != chosen.method:
            tuned = None
    others = []
    for row in implementations(op):
        if row is chosen:
            continue
        reason = row.supports(spec)
        if reason is None and row.backend != chosen.backend:
            reason = f"backend {chosen.backend!r} is in use"
        elif reason is None and method != "auto":
            reason = f"method {method!r} was asked for"
        elif reason is None and tuned is not None and row.method in tuned.seconds:
            share = tuned.seconds[row.method] / tuned.seconds[chosen.method]
            reason = f"took {share:.2g} times as long as {chosen.method} when measured"
        elif reason is None:
            share = row.cost_of_call(spec, packed) / chosen.cost_of_call(spec, packed)
            reason = f"about {share:.2g} times the cost of {chosen.method}"
            cost = row.cost(spec)
            if isinstance(cost, Cost):
                reason += f" ({cost})"
        others.append((row, reason))
    missing = tuple((name, reason) for name in BACKENDS if (reason := why_missing(name)))
    return Explanation(op, spec, chosen, tuple(others), missing, tuned)
