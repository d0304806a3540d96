"""How many threads really run: `using`, the environment and threadpoolctl's limits, all obeyed.

The threads of a process are counted in /proc. OpenMP keeps those that it has started, so a number
that does not grow says that no more were asked for. Each case is a process of its own.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers import BACKENDS

TASKS = Path("/proc/self/task")
pytestmark = [
    pytest.mark.skipif(not TASKS.exists(), reason="threads cannot be counted here"),
    pytest.mark.skipif("native" not in BACKENDS, reason="native is not built"),
]

START = """
import os, threading
import numpy as np
import fastconv as fc
from fastconv import grad, ops
from threadpoolctl import threadpool_limits

fc.get_num_threads()  # loads OpenMP: threadpoolctl limits the libraries that it finds loaded
rng = np.random.default_rng(0)
x = rng.uniform(size=(9, 16, 33, 35))
w = rng.uniform(size=(16, 16, 3, 3))
one = rng.uniform(size=(16, 1, 3, 3))

def work():
    y = fc.conv2d(x, w, activation="tanh")
    fc.conv2d(x, one, groups=16)
    grad.conv2d_input(x.shape, w, y)
    grad.conv2d_weight(x, w.shape, y)
    pooled, indices = fc.max_pool2d(y, 2, return_indices=True)
    fc.avg_pool2d(y, 2), fc.unfold(x, 2), ops.sigmoid(x)
    return pooled.tobytes()

def small():
    fc.conv2d(x[:1, :, :9, :9], w[:2])
    fc.conv2d(x[:1, :2, :9, :9], one[:2], groups=2)
    fc.max_pool2d(x[:1, :4], 2), fc.avg_pool2d(x[:1, :4], 2), ops.relu(x[0, 0])
    grad.conv2d_weight(x[:1, :2, :9, :9], (2, 2, 3, 3), x[:1, :2, :7, :7])

def started(function):
    "Threads that a call has added to the process."
    before = len(os.listdir("/proc/self/task"))
    function()
    return len(os.listdir("/proc/self/task")) - before

def in_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
"""

CASES = {
    "using": """
        with fc.using(num_threads=1):
            assert started(work) == 0 and fc.get_num_threads() == 1
        with fc.using(num_threads=3):
            assert started(work) == 2 and fc.get_num_threads() == 3
    """,
    "a limit": """
        fc.set_num_threads(3)
        with threadpool_limits(1):
            assert fc.get_num_threads() == 1
            assert started(work) == 0
        assert fc.get_num_threads() == 3
        assert started(work) == 2
    """,
    "a limit of OpenMP alone": """
        fc.set_num_threads(3)
        with threadpool_limits(1, user_api="openmp"):
            assert started(work) == 0
        with threadpool_limits(1, user_api="blas"):
            assert started(work) == 2
    """,
    "the lower of both": """
        with threadpool_limits(2), fc.using(num_threads=4):
            assert fc.get_num_threads() == 2
            assert started(work) == 1
            with fc.using(num_threads=1):
                assert fc.get_num_threads() == 1
            with threadpool_limits(1):
                assert fc.get_num_threads() == 1
                with fc.using(num_threads=4):
                    assert fc.get_num_threads() == 1
            assert fc.get_num_threads() == 2
        with fc.using(num_threads=4), threadpool_limits(3):
            assert started(work) == 1
    """,
    "a limit above": """
        with threadpool_limits(8), fc.using(num_threads=3):
            assert fc.get_num_threads() == 3
            assert started(work) == 2
    """,
    "a limit binds its thread": """
        fc.set_num_threads(2)
        seen = []
        with threadpool_limits(1):
            in_thread(lambda: seen.append(fc.get_num_threads()))
            assert fc.get_num_threads() == 1
        def limited():
            with threadpool_limits(1):
                seen.append(fc.get_num_threads())
                work()
        in_thread(limited)
        assert seen == [2, 1] and fc.get_num_threads() == 2
    """,
    "the same bits": """
        fc.set_num_threads(3)
        free = work()
        with threadpool_limits(1):
            assert work() == free
    """,
    "small calls": """
        with fc.using(num_threads=4):
            assert started(small) == 0
            assert started(work) == 3
    """,
    "after a fork": """
        fc.set_num_threads(4)
        work()
        pid = os.fork()
        if pid == 0:
            one_thread = len(os.listdir("/proc/self/task")) == 1
            os._exit(0 if one_thread and started(small) == started(work) == 0 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert started(work) == 0  # the parent has its three still
    """,
    "after a fork under a limit": """
        fc.set_num_threads(3)
        with threadpool_limits(1):
            work()
        pid = os.fork()
        if pid == 0:  # no team ran in the parent: the child may have one
            os._exit(0 if started(small) == 0 and started(work) == 2 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """,
}


def run(script, **variables):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP", "FASTCONV"))}
    environment = kept | {"OMP_NUM_THREADS": "4"} | variables
    script = "import warnings; warnings.simplefilter('ignore')\n" + script
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=60, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_threads(case):
    run(START + textwrap.dedent(case))


def test_a_limit_set_before_the_first_call():
    """OpenMP's library is loaded, and limited, before fastconv's kernels are."""
    load = """
import ctypes, sys
try:
    ctypes.CDLL("libgomp.so.1")
except OSError:
    sys.exit(0)  # there is only the one inside the wheel
from threadpoolctl import threadpool_limits
limit = threadpool_limits(1)
"""
    end = """
fc.set_num_threads(3)
assert fc.get_num_threads() == 1 and started(work) == 0
limit.restore_original_limits()
assert fc.get_num_threads() == 3 and started(work) == 2
"""
    run(load + START + end)


def test_omp_num_threads_bounds_the_default_alone():
    default = """
assert fc.get_num_threads() == 1 and started(work) == 0
with fc.using(num_threads=3):
    assert fc.get_num_threads() == 3 and started(work) == 2
fc.set_num_threads(2)
assert fc.get_num_threads() == 2
"""
    run(START + default, OMP_NUM_THREADS="1")
    run(START + default, OMP_NUM_THREADS="1,2")
    asked = "assert fc.get_num_threads() == 3 and started(work) == 2"
    run(START + asked, OMP_NUM_THREADS="1", FASTCONV_NUM_THREADS="3")
    cpus = "assert fc.get_num_threads() == len(os.sched_getaffinity(0))"
    run(START + cpus, OMP_NUM_THREADS="1000")
    run(START + cpus, OMP_NUM_THREADS="several")
