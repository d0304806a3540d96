"""How many threads a call may start: OpenMP's do not survive a fork, whichever backend ran them."""

import os

_team_ran = False  # a team of threads has run in this process
_forked = False  # this process was forked from one whose team had run


def _after_fork_in_child():
    # the team's threads are not in the child; a new team would wait for them for ever
    global _forked
    _forked = _forked or _team_ran


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def usable(threads: int) -> int:
    """`threads`, or 1 where no more can be started; more than one count as started.

    Examples
    --------
    >>> usable(1)
    1
    """
    global _team_ran
    if threads > 1:
        if _forked:
            return 1
        _team_ran = True
    return threads
