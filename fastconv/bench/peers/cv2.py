"""OpenCV: filter2D for image filters, and its networks, which read ONNX, for layers."""

from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np

from fastconv.bench.peers import Made
from fastconv.bench.peers.onnxruntime import convolution_model, lenet_model, pooling_model


@contextmanager
def threads(n):
    """A context: OpenCV runs on n threads."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(n)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _network(data, batches):
    """A call that runs all batches through a network."""
    import cv2

    nets = {}
    for x in batches:
        if len(x) not in nets:
            nets[len(x)] = cv2.dnn.readNetFromONNX(np.frombuffer(data(len(x)), np.uint8))

    def run():
        results = []
        for x in batches:
            net = nets[len(x)]
            net.setInput(x)
            results.append(net.forward())
        return results

    return Made(run, lambda results: (np.concatenate(results),))


def convolution(problem):
    """Forward only: filter2D where every channel is filtered by itself, else a network."""
    if problem.op != "forward":
        return {}
    makers = {}
    if problem.is_filter():
        makers["OpenCV filter2D"] = lambda: _filter(problem)
    if find_spec("onnx"):
        makers["OpenCV dnn"] = lambda: _network(
            lambda images: convolution_model(problem), [problem.data[0]]
        )
    return makers


def _filter(problem):
    """One image; several channels lie side by side in each pixel, as OpenCV has them."""
    import cv2

    x, w, b, _ = problem.data
    padding = problem.options[1]
    same = all((w == w[0]).ravel()) and all(b == b[0])
    kernels = w[:1, 0] if same else w[:, 0]
    planes = [np.ascontiguousarray(x[0].transpose(1, 2, 0))] if same else list(x[0])
    inside = slice(None) if padding else slice(w.shape[2] // 2, -(w.shape[2] // 2))

    def run():
        return [
            cv2.filter2D(plane, -1, kernel, delta=float(b[0]), borderType=cv2.BORDER_CONSTANT)
            for plane, kernel in zip(planes, kernels, strict=True)
        ]

    def read(result):
        result = result[0] if same else np.stack(result, -1)
        if result.ndim == 2:
            result = result[:, :, None]
        return (result[inside, inside].transpose(2, 0, 1)[None],)

    return Made(run, read)


def pooling(problem):
    """Forward, without places."""
    if problem.op not in ("max", "avg") or not find_spec("onnx"):
        return {}
    return {
        "OpenCV dnn": lambda: _network(lambda images: pooling_model(problem), [problem.data[0]])
    }


def inference(problem):
    """Scores, batch by batch."""
    if not find_spec("onnx"):
        return {}
    return {
        "OpenCV dnn": lambda: _network(
            lambda images: lenet_model(problem, images), problem.batches()
        )
    }
