"""How many threads a call may start, whichever backend runs it.

OpenMP's do not survive a fork. And a limit that somebody set on OpenMP in the calling thread, as
`threadpoolctl.threadpool_limits` does, binds fastconv, too.
"""

import functools
import os
from collections.abc import Callable

_team_ran = False  # a team of threads has run in this process
_forked = False  # this process was forked from one whose team had run


def _after_fork_in_child():
    # the team's threads are not in the child; a new team would wait for them for ever
    global _forked
    _forked = _forked or _team_ran


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def from_environment() -> int | None:
    """``OMP_NUM_THREADS``, of its list the first; None where it is unset or no number.

    Examples
    --------
    >>> from_environment() != 0
    True
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else None


@functools.cache
def _openmp() -> Callable[[int], int]:
    try:
        from fastconv.backends.native import _dispatch
    except ImportError:
        return int
    return _dispatch.limited


def limited(threads: int) -> int:
    """`threads`, or fewer where a lower limit is set on OpenMP in the calling thread.

    What OpenMP starts out with is no limit: ``OMP_NUM_THREADS`` bounds the default of fastconv, not
    a number that was asked for.

    Examples
    --------
    >>> limited(1)
    1
    """
    return _openmp()(threads) if threads > 1 else threads


def usable(threads: int) -> int:
    """`threads`, or fewer under a limit, or 1 after a fork; more than one count as started.

    Examples
    --------
    >>> usable(1)
    1
    """
    global _team_ran
    if threads > 1:
        if _forked:
            return 1
        threads = _openmp()(threads)
        if threads > 1:
            _team_ran = True
    return threads
