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

    x, w, b, _ = problem.data
    same = problem.options[1] > 0
    edge = 0 if same else w.shape[2] // 2
    mode = "same" if same else "valid"

    def one(plane, kernel, bias):
        if which == "ndimage":
            result = ndimage.correlate(plane, kernel, mode="constant")
            result = result[edge : len(plane) - edge, edge : plane.shape[1] - edge]
        elif which == "correlate2d":
            result = signal.correlate2d(plane, kernel, mode)
        else:
            result = signal.fftconvolve(plane, kernel[::-1, ::-1], mode)
        result += bias
        return result

    def run():
        return [one(*given) for given in zip(x[0], w[:, 0], b, strict=True)]

    return Made(run, lambda result: (np.stack(result)[None],))
