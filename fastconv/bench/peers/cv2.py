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
    """One image, its channels side by side in each pixel, as OpenCV has them."""
    import cv2

    x, w = problem.data[:2]
    image, kernel = np.ascontiguousarray(x[0].transpose(1, 2, 0)), w[0, 0]

    def run():
        return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_CONSTANT)

    # a single channel comes back without its axis
    return Made(run, lambda y: (y.reshape(image.shape).transpose(2, 0, 1)[None],))


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
