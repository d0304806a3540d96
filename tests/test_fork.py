"""A child made by os.fork() after a threaded call computes, and ends."""

import os
import subprocess
import sys
import textwrap

import pytest
from helpers import FAST_BACKENDS

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

SCRIPT = """
import os, sys, warnings
import numpy as np
import fastconv as fc

warnings.simplefilter("ignore")  # Python's own, about forking a process with threads
rng = np.random.default_rng(0)
x, w = rng.uniform(size=(9, 16, 33, 35)), rng.uniform(size=(24, 16, 3, 3))

def work():
    {work}


def child_of(body):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if body() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""

WORK = {
    "native": """
    y = fc.conv2d(x, w, activation="tanh")
    pooled, indices = fc.max_pool2d(y, 2, return_indices=True)
    return fc.grad.max_pool2d(pooled, indices, y.shape).tobytes() + fc.avg_pool2d(y, 2).tobytes()
    """,
    # what compiles quickly
    "numba": "return fc.grad.conv2d_bias(x).tobytes()",
}
BODIES = {
    "after a threaded call": """
        fc.set_num_threads(2)
        expected = work()
        assert child_of(lambda: work() == expected) == 0
        assert work() == expected  # the parent goes on, with its threads
    """,
    "a grandchild": """
        fc.set_num_threads(2)
        expected = work()
        assert child_of(lambda: child_of(lambda: work() == expected) == 0) == 0
    """,
    "threads asked for in the child": """
        fc.set_num_threads(3)
        expected = work()

        def body():
            with fc.using(num_threads=2):
                return work() == expected

        assert child_of(body) == 0
    """,
    "before any call": """
        fc.set_num_threads(2)
        assert child_of(lambda: len(work()) > 0) == 0
        work()
    """,
    "in a block": """
        with fc.using(num_threads=2):
            expected = work()
            assert child_of(lambda: work() == expected) == 0
    """,
}


@pytest.mark.parametrize("backend", FAST_BACKENDS)
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_forked_child_computes(body, backend):
    script = SCRIPT.replace("{work}", WORK[backend].strip()) + textwrap.dedent(body)
    environment = os.environ | {"FASTCONV_BACKEND": backend, "NUMBA_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=60, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
