"""Settings: environment variables, `using`, threads, and what `show_config` prints.

=============================  ========================================================
environment variable           meaning
=============================  ========================================================
``FASTCONV_BACKEND``           backend when a call names none: one of `BACKENDS`
``FASTCONV_ISA``               instruction set of the native backend, out of those built
``FASTCONV_NUM_THREADS``       threads of one call; default: the CPUs this process may use
``FASTCONV_WINOGRAD``          "auto", "precise" or "never", see `using`; default: "auto"
``FASTCONV_FLUSH_DENORMALS``   0: the native backend computes with denormals; default: 1
``OMP_NUM_THREADS``            where it is lower, the default number of threads
``FASTCONV_DATA``              folder searched first for data sets (read by `datasets`)
=============================  ========================================================

A value that cannot be honoured raises at first use and lists the valid ones; nothing is ever
silently replaced.

A limit set on OpenMP in the calling thread, as `threadpoolctl.threadpool_limits` does, binds like
`using(num_threads=)`; the lower of both counts. threadpoolctl limits the libraries that it finds
loaded, and fastconv loads OpenMP with its first native call, or its first `get_num_threads()`.

Denormals, below 1.2e-38 in float32, slow some processors down a hundred times. Where the native
backend adds up products (convolutions, pooling by averages, their gradients) it takes them for
zeros, in the operands and in the result. Maxima, minima, activations, `unfold`, `fold` and the
gradient of a bias keep them, and so do the method "fft" and the backends "numba" and "reference".
The mode of the processor is changed for the time of a call, in the threads that compute it, and
then set back.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from contextlib import ContextDecorator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastconv import _threads

__all__ = [
    "Settings",
    "current",
    "get_num_threads",
    "set_num_threads",
    "show_config",
    "using",
]

BACKENDS = ("native", "numba", "reference")
METHODS = ("auto", "direct", "im2col", "pointwise", "depthwise", "winograd", "fft")
WINOGRAD = ("auto", "precise", "never")


@dataclass(frozen=True, slots=True, eq=False)  # cached, so identity is equality
class Settings:
    """What a call goes by where its own arguments say nothing."""

    backend: str
    method: str
    isa: str | None
    num_threads: int
    flush_denormals: bool
    winograd: str


@functools.lru_cache(maxsize=256)
def _settings(*values) -> Settings:
    return Settings(*values)


def _changed(settings: Settings, **changes) -> Settings:
    """The settings with these changes: the same object whenever they come out the same."""
    return _settings(*(changes.get(name, getattr(settings, name)) for name in Settings.__slots__))


# what the `using` blocks round the running code change
_overrides: ContextVar[_Override | None] = ContextVar("fastconv_settings", default=None)
_process: Settings | None = None  # from the environment and set_num_threads


def current() -> Settings:
    """The settings in force here.

    Examples
    --------
    >>> with using(num_threads=1):
    ...     current().num_threads
    1
    """
    override = _overrides.get()
    process = _process or _from_environment()
    return process if override is None else override.over(process)


class _Override:
    """The changes of a block and of those round it, applied once to the settings they change."""

    __slots__ = ("_last", "changes")

    def __init__(self, changes: dict):
        self.changes = changes
        self._last = (None, None)  # replaced as one, for threads that share a context

    def over(self, process: Settings) -> Settings:
        base, result = self._last
        if base is not process:
            result = _changed(process, **self.changes)
            self._last = process, result
        return result


def _from_environment() -> Settings:
    global _process
    environment = os.environ
    threads = environment.get("FASTCONV_NUM_THREADS")
    if threads is None:
        threads = min(_usable_cpus(), _threads.from_environment() or _usable_cpus())
    else:
        try:
            threads = int(threads)
        except ValueError:
            threads = 0
        if threads < 1:
            raise ValueError(
                "FASTCONV_NUM_THREADS: expected a positive integer, "
                f"got {environment['FASTCONV_NUM_THREADS']!r}"
            )
    made = Settings(
        backend=_one_of(
            "FASTCONV_BACKEND", environment.get("FASTCONV_BACKEND", BACKENDS[0]), BACKENDS
        ),
        method="auto",
        isa=_valid_isa("FASTCONV_ISA", environment.get("FASTCONV_ISA")),
        num_threads=threads,
        flush_denormals=_one_of(
            "FASTCONV_FLUSH_DENORMALS", environment.get("FASTCONV_FLUSH_DENORMALS", "1"), ("0", "1")
        )
        == "1",
        winograd=_one_of(
            "FASTCONV_WINOGRAD", environment.get("FASTCONV_WINOGRAD", WINOGRAD[0]), WINOGRAD
        ),
    )
    _process = _changed(made)
    return _process


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _one_of(name: str, value, valid):
    if value not in valid:
        raise ValueError(f"{name}: expected one of {', '.join(valid)}, got {value!r}")
    return value


def _valid_isa(name: str, value: str | None) -> str | None:
    if value is None:
        return None
    from fastconv import registry

    registry.require("native")
    from fastconv.backends.native import available_isas, isa_names

    if value not in isa_names():
        raise ValueError(f"{name}: expected one of {', '.join(available_isas())}, got {value!r}")
    if value not in available_isas():
        raise ValueError(
            f"{name}: this CPU cannot run {value!r}; it runs {', '.join(available_isas())}"
        )
    return value


def _thread_count(name: str, value) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__} {value!r}")
    if value < 1:
        raise ValueError(f"{name}: expected at least 1, got {value}")
    return int(value)


class using(ContextDecorator):  # noqa: N801  (used as a function: `with using(...)`)
    """Settings for a with-block, or for a function that it decorates.

    They hold in this thread (and asyncio task) only; blocks nest, and what a block does not name
    stays as it was.

    Parameters
    ----------
    backend : str, optional
        "native", "numba" or "reference".
    method : str, optional
        One of `METHODS`, for convolutions.
    isa : str, optional
        An instruction set of the native backend, see `show_config`.
    num_threads : int, optional
        Wins over the environment, not over a limit that is set on OpenMP (`threadpoolctl`).
    flush_denormals : bool, optional
        Whether the native backend takes denormals for zeros where it adds up products; it does by
        default.
    winograd : str, optional
        Whether 3x3 convolutions with stride 1 may be computed by Winograd's algorithm, which is two
        to three times as fast and rounds more: its largest error is up to 16 times that of a direct
        sum ("auto"); up to 4 times, with smaller tiles ("precise"); or it is never used ("never").
        With stride 2 it is one and a half times as fast, in float32 and with "auto" alone.
        float64 always gets the smaller tiles; "auto" never takes it for integers. A NaN or an
        infinity in the input spreads over its tiles, of 4x4 or 2x2 outputs. Filters of 49 taps and
        more for single channels may be taken in groups of three rows (in float64: two), those of
        5x5 with AVX-512 in pairs of rows (in float32), unless "never": with errors up to 4 times a
        direct sum's for taps of about one size.

    Raises
    ------
    TypeError, ValueError
        When a value is unknown or cannot be honoured on this machine.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> with fc.using(num_threads=1):
    ...     y = fc.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)))
    >>> float(y[0, 0, 0, 0])
    9.0
    """

    def __init__(
        self,
        *,
        backend=None,
        method=None,
        isa=None,
        num_threads=None,
        flush_denormals=None,
        winograd=None,
    ):
        self._changes = {}
        if backend is not None:
            self._changes["backend"] = _one_of("backend", backend, BACKENDS)
        if method is not None:
            self._changes["method"] = _one_of("method", method, METHODS)
        if isa is not None:
            self._changes["isa"] = _valid_isa("isa", isa)
        if num_threads is not None:
            self._changes["num_threads"] = _thread_count("num_threads", num_threads)
        if flush_denormals is not None:
            if not isinstance(flush_denormals, (bool, np.bool_)):
                raise TypeError(f"flush_denormals: expected True or False, got {flush_denormals!r}")
            self._changes["flush_denormals"] = bool(flush_denormals)
        if winograd is not None:
            self._changes["winograd"] = _one_of("winograd", winograd, WINOGRAD)
        self._tokens = []

    def _recreate_cm(self):
        # a decorated function may run in several threads at once: each call gets its own block
        return using(**self._changes)

    def __enter__(self):
        current()  # a bad environment variable raises here
        outer = _overrides.get()
        changes = self._changes if outer is None else outer.changes | self._changes
        self._tokens.append(_overrides.set(_Override(changes)))
        return self

    def __exit__(self, *exc):
        _overrides.reset(self._tokens.pop())
        return False


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, in the whole process.

    Small work uses fewer; results do not depend on the number. A block of `using(num_threads=)`
    keeps its own number.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _process
    n = _thread_count("n", n)
    _process = _changed(_process or _from_environment(), num_threads=n)


def get_num_threads() -> int:
    """How many threads a call made here may use, all limits taken together.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return _threads.limited(current().num_threads)


def cache_folder() -> Path:
    """Where this user's files are kept that can be made again: data sets, tuned choices."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG rule: a relative path is ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "fastconv")


@functools.cache
def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def config() -> dict[str, object]:
    """What `show_config` prints, as a dictionary.

    Examples
    --------
    >>> config()["backends"]["reference"]
    'present'
    """
    import fastconv
    from fastconv import registry

    settings = current()
    backends = {}
    for name in BACKENDS:
        problem = registry.why_missing(name)
        backends[name] = "present" if problem is None else f"missing: {problem}"
    report: dict[str, object] = {
        "fastconv": fastconv.__version__,
        "python": sys.version.split()[0],
        "numpy": np.__version__,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "threads": get_num_threads(),
        "default backend": settings.backend,
        "backends": backends,
    }
    if backends["native"] == "present":
        from fastconv.backends import native

        report["isa"] = settings.isa or native.available_isas()[0]
        report["isa available"] = list(native.available_isas())
        report["isa built"] = list(native.isa_names())
        report["denormals"] = "zeros" if settings.flush_denormals else "kept"
        report["winograd"] = settings.winograd
        report["openmp"] = native.openmp_runtime()
        report["compiler"] = native.compiler()
    return report


def show_config() -> None:
    """Print versions, instruction sets, threads, the OpenMP runtime and the backends present.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastconv ...
    """
    for key, value in config().items():
        if isinstance(value, dict):
            value = "; ".join(f"{name} ({state})" for name, state in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{key:16} {value}")
