"""SciPy: filters of single planes. It runs on one thread, whatever is asked for."""

from contextlib import nullcontext

import numpy as np

from fastconv.bench.peers import Made


def threads(n):
    """A context that changes nothing."""
    return nullcontext()


def convolution(problem):
    """Forward, where every channel is filtered by itself."""
    if problem.op != "forward" or not problem.is_filter():
        return {}
    return {
        "SciPy ndimage": lambda: _planes(problem, "ndimage"),
        "SciPy correlate2d": lambda: _planes(problem, "correlate2d"),
        "SciPy fftconvolve": lambda: _planes(problem, "fftconvolve"),
    }


def _planes(problem, which):
    from scipy import ndimage, signal

    x, w = problem.data[:2]
    kernel = w[0, 0]
    one = {
        "ndimage": lambda plane: ndimage.correlate(plane, kernel, mode="constant"),
        "correlate2d": lambda plane: signal.correlate2d(plane, kernel, "same"),
        "fftconvolve": lambda plane: signal.fftconvolve(plane, kernel[::-1, ::-1], "same"),
    }[which]
    # a transform's errors are relative to the whole plane, not to the sum at hand
    slack = 16 if which == "fftconvolve" else 1
    return Made(lambda: [one(plane) for plane in x[0]], lambda y: (np.stack(y)[None],), slack=slack)
