"""TensorFlow: the training step as a graph (`tf.function`), in its own NHWC layout."""

import os
from contextlib import contextmanager

from fastconv.bench.peers import Made

_threads = None  # cannot be changed once TensorFlow has computed anything


@contextmanager
def threads(n):
    """A context: TensorFlow runs on n threads, the same for the whole process.

    Raises
    ------
    RuntimeError
        When it has already run on another number.
    """
    global _threads
    if _threads not in (None, n):
        raise RuntimeError(f"TensorFlow runs on {_threads} threads in this process, not on {n}")
    if _threads is None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # its greetings
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(n)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        _threads = n
    yield


def _to_nhwc(array):
    """A weight as TensorFlow has it: filters (R, S, C, K), matrices (in, out), flattened NHWC."""
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if array.ndim == 2 and array.shape[1] == 400:  # behind the flattening of (16, 5, 5)
        return array.reshape(-1, 16, 5, 5).transpose(2, 3, 1, 0).reshape(400, -1)
    return array.T if array.ndim == 2 else array


def _from_nhwc(array):
    """The opposite."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2 and array.shape[0] == 400:
        return array.reshape(5, 5, 16, -1).transpose(3, 2, 0, 1).reshape(-1, 400)
    return array.T if array.ndim == 2 else array


def training(problem):
    """A step."""
    return {"TensorFlow graph": lambda: _step(problem)}


def _step(problem):
    import tensorflow as tf

    images, labels = problem.data
    x, labels = tf.constant(images.transpose(0, 2, 3, 1)), tf.constant(labels)
    weights = [tf.Variable(_to_nhwc(v)) for v in problem.net().state_dict().values()]
    pool = tf.nn.avg_pool2d if problem.pool == "avg" else tf.nn.max_pool2d

    def scores(y):
        w = iter(weights)
        for padding in ("SAME", "VALID"):
            y = tf.nn.bias_add(tf.nn.conv2d(y, next(w), 1, padding), next(w))
            y = pool(tf.sigmoid(y), 2, 2, "VALID")
        y = tf.reshape(y, (len(y), 400))
        for last in (False, False, True):
            y = tf.matmul(y, next(w)) + next(w)
            y = y if last else tf.sigmoid(y)
        return y

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores(x))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, weights)
        for w, g in zip(weights, gradients, strict=True):
            w.assign_sub(problem.LEARNING_RATE * g)
        return loss, gradients

    def run():
        loss, gradients = step()
        return float(loss), gradients

    def read(result):
        loss, gradients = result
        return [loss, *(_from_nhwc(g.numpy()) for g in gradients)]

    return Made(run, read)
