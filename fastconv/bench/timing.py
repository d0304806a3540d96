"""Check every contender, then time all of them round by round in one function."""

import gc
import random
import statistics
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np

import fastconv as fc
from fastconv.bench import peers

BASELINE_ROUNDS = 3  # of a baseline that is slow; nobody races against it
SLOW = 0.02  # seconds of a call from which on it is that
WARM_UP = 3  # calls before a sample, or one slow call: the caches are then as such calls leave them


class Wrong(AssertionError):
    """A contender computes something else than the reference."""


@dataclass
class Contender:
    """One way to compute a layer.

    Attributes
    ----------
    name : str
    kind : {"fastconv", "peer", "baseline"}
        Ratios are taken against the best peer.
    call : callable
        ``call()`` does the work once.
    expected : callable
        ``expected()`` gives the reference as [(array, tolerance), ...].
    read : callable
        ``read(result)`` gives what `call` returned as NumPy arrays, in the order of `expected`.
    share : float
        Part of the work that `call` does; its times are divided by it. Below 1 they are
        extrapolated, which `note` has to say.
    note : str
    auto : bool
        Whether a fastconv call that names no method runs this.
    method : str, optional
        The method of the native backend that this is: what "auto" chooses from.
    allocation : {"fresh", "out", "reused"}
        Where the output's memory comes from.
    context : callable
        Makes the with-block that `call` runs in; entering it is not timed.
    """

    name: str
    kind: str
    call: object
    expected: object
    read: object = lambda result: (result,)
    share: float = 1.0
    note: str = ""
    auto: bool = False
    method: str | None = None
    allocation: str = "fresh"
    context: object = nullcontext


@dataclass
class Measurement:
    """Seconds of one call, round by round, of every contender of a layer."""

    kinds: dict[str, str]
    samples: dict[str, list[float]]
    calls: dict[str, int] = field(default_factory=dict)

    def median(self, name):
        """Median over the rounds, in seconds."""
        return statistics.median(self.samples[name])

    def peers(self):
        """Names of the peers."""
        return [name for name, kind in self.kinds.items() if kind == "peer"]

    def best_peer(self):
        """The fastest peer, None when there is none."""
        return min(self.peers(), key=self.median, default=None)

    def ratio(self, name, other):
        """How many times as fast as `other`: the median of the rounds' ratios."""
        pairs = zip(self.samples[other], self.samples[name], strict=False)
        return statistics.median(theirs / own for theirs, own in pairs)


def verify(contender):
    """Raise `Wrong` unless the contender's result is the reference's.

    Tolerances are absolute; NaN and infinity never pass.
    """
    with contender.context():
        results = contender.read(contender.call())
    expected = contender.expected()
    if len(results) != len(expected):
        raise Wrong(f"{contender.name}: {len(results)} results, expected {len(expected)}")
    for i, (result, (reference, tolerance)) in enumerate(zip(results, expected, strict=True)):
        result = np.asarray(result)
        if result.shape != np.shape(reference):
            raise Wrong(
                f"{contender.name}: result {i} has shape {result.shape}, "
                f"expected {np.shape(reference)}"
            )
        error = np.max(np.abs(result.astype(np.float64) - reference), initial=0.0)
        if not error <= tolerance:
            raise Wrong(
                f"{contender.name}: result {i} is off by {error:.3g}, allowed {tolerance:.3g}"
            )


def interleaved(contenders, rounds=15, min_sample=0.002, timer=time.perf_counter):
    """Time all contenders in turn, in each round in another order.

    Orders are shuffled, the same ones in each run: whoever always came after the same contender
    would always find the caches as that one leaves them.

    Parameters
    ----------
    contenders : sequence of Contender
    rounds : int
        Samples of each contender; a slow baseline gets at most `BASELINE_ROUNDS`.
    min_sample : float
        Seconds that a sample lasts at least: fast calls are repeated within it.
    timer : callable
        The clock, in seconds.

    Returns
    -------
    Measurement
    """
    calls, limit, warm_up = {}, {}, {}
    for c in contenders:
        with c.context():
            c.call()
            start = timer()
            c.call()
            once = max(timer() - start, 1e-7)
        calls[c.name] = max(1, round(min_sample / once))
        is_slow = once > SLOW
        warm_up[c.name] = 1 if is_slow else WARM_UP
        is_rare = is_slow and c.kind == "baseline"
        limit[c.name] = min(rounds, BASELINE_ROUNDS) if is_rare else rounds
    samples = {c.name: [] for c in contenders}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i in range(rounds):
            for c in random.Random(i).sample(contenders, len(contenders)):
                if i >= limit[c.name]:
                    continue
                call, count = c.call, calls[c.name]
                with c.context():
                    for _ in range(warm_up[c.name]):
                        call()
                    start = timer()
                    for _ in range(count):
                        call()
                    stop = timer()
                samples[c.name].append((stop - start) / count / c.share)
    finally:
        if collecting:
            gc.enable()
    return Measurement({c.name: c.kind for c in contenders}, samples, calls)


def limits_blas():
    """Whether `threads` reaches NumPy's BLAS: threadpoolctl, a small package, does that."""
    return find_spec("threadpoolctl") is not None


@contextmanager
def threads(n, modules=()):
    """Everybody runs on `n` threads: fastconv, NumPy's BLAS, the peers of these modules."""
    with ExitStack() as stack:
        stack.enter_context(fc.using(num_threads=n))
        for module in modules:
            stack.enter_context(peers.module(module).threads(n))
        if limits_blas():
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(n))
        yield


class Replay:
    """A clock for pytest-benchmark that runs only by the samples already taken.

    pytest-benchmark times one function after the other; ours are timed in turn. So it is handed
    the samples: each call of `advance` moves the clock by the next one.
    """

    def __init__(self):
        self.now = 0.0
        self.pending = iter(())

    def __call__(self):
        return self.now

    def load(self, samples):
        """Play these samples next."""
        self.now = 0.0
        self.pending = iter(samples)

    def advance(self):
        """What pytest-benchmark believes to time."""
        self.now += next(self.pending)


REPLAY = Replay()
