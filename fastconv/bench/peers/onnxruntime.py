"""ONNX Runtime: a graph for each problem; weights are packed when the session is made.

Its threads do not spin between calls: on the cores of the contender whose turn it is they would.
"""

from contextlib import contextmanager

import numpy as np

from fastconv.bench.peers import Made, pair

_threads = 1


@contextmanager
def threads(n):
    """A context: sessions made in it run on n threads."""
    global _threads
    before, _threads = _threads, n
    try:
        yield
    finally:
        _threads = before


def model(nodes, inputs, outputs, constants=()):
    """An ONNX file as bytes.

    Parameters
    ----------
    nodes : list of (operator, inputs, outputs, attributes)
    inputs : dict of str to shape
    outputs : dict of str to (dtype, number of axes)
    constants : dict of str to array, optional

    Returns
    -------
    bytes
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
        "problem",
        [helper.make_tensor_value_info(n, types["float32"], s) for n, s in inputs.items()],
        [
            helper.make_tensor_value_info(n, types[t], [None] * axes)
            for n, (t, axes) in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in dict(constants).items()],
    )
    # old enough for every runtime that reads it
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(made)
    return made.SerializeToString()


def _session(data):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def convolution_model(problem):
    """The forward convolution of a problem as a graph from x to y."""
    _, w, b, _ = problem.data
    stride, padding, dilation, groups = problem.options
    attributes = {
        "kernel_shape": w.shape[2:],
        "strides": pair(stride),
        "pads": pair(padding) * 2,
        "dilations": pair(dilation),
        "group": groups,
    }
    x = {"x": problem.spec.input_shape}
    node = ("Conv", ["x", "w", "b"], ["y"], attributes)
    return model([node], x, {"y": ("float32", 4)}, {"w": w, "b": b})


def pooling_model(problem):
    """A forward pooling as a graph from x to y, and to the places of maxima."""
    kernel, stride, padding = ([n, n] for n in problem.options)
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": padding * 2}
    outputs = {"y": ("float32", 4)}
    if problem.op == "avg":
        node = ("AveragePool", ["x"], ["y"], attributes | {"count_include_pad": 1})
    else:
        if problem.op == "max, indices":
            outputs["at"] = "int64", 4
        node = ("MaxPool", ["x"], list(outputs), attributes)
    return model([node], {"x": problem.spec.input_shape}, outputs)


def lenet_model(problem, images):
    """LeNet with the problem's weights as a graph from x to y."""
    pool = {"avg": "AveragePool", "max": "MaxPool"}[problem.pool]
    weights = problem.net().state_dict()
    names = list(weights)
    nodes, last = [], "x"

    def add(op, *more, **attributes):
        nonlocal last
        made = f"t{len(nodes)}"
        nodes.append((op, [last, *more], [made], attributes))
        last = made

    for i in range(2):
        add("Conv", *names[2 * i : 2 * i + 2], kernel_shape=[5, 5], pads=[2 * (i == 0)] * 4)
        add("Sigmoid")
        add(pool, kernel_shape=[2, 2], strides=[2, 2])
    add("Flatten")
    for i in range(2, 5):
        add("Gemm", *names[2 * i : 2 * i + 2], transB=1)
        if i < 4:
            add("Sigmoid")
    nodes.append(("Identity", [last], ["y"], {}))
    return model(nodes, {"x": (images, 1, 28, 28)}, {"y": ("float32", 2)}, weights)


def _running(data, x, read=list):
    session = _session(data)
    return Made(lambda: session.run(None, {"x": x}), read)


def convolution(problem):
    """Forward only."""
    if problem.op != "forward":
        return {}
    return {"ONNX Runtime": lambda: _running(convolution_model(problem), problem.data[0])}


def pooling(problem):
    """Forward only. Its places of maxima count through all planes."""
    if "gradient" in problem.op:
        return {}
    x = problem.data[0]

    def read(results):
        return [results[0], *(at % (x.shape[2] * x.shape[3]) for at in results[1:])]

    return {"ONNX Runtime": lambda: _running(pooling_model(problem), x, read)}


def inference(problem):
    """Scores, batch by batch."""

    def make():
        batches = problem.batches()
        sessions = {len(x): None for x in batches}
        for images in sessions:
            sessions[images] = _session(lenet_model(problem, images))
        return Made(
            lambda: [sessions[len(x)].run(None, {"x": x})[0] for x in batches],
            lambda scores: (np.concatenate(scores),),
        )

    return {"ONNX Runtime": make}
