"""PyTorch: NCHW and channels_last memory, prepacked weights, eager and compiled networks."""

import os
import shutil
import warnings
from contextlib import contextmanager

from fastconv.bench.peers import Made, pair


@contextmanager
def threads(n):
    """A context: PyTorch runs on n threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _inferring(call, read):
    """Without the book-keeping for gradients."""
    import torch

    return Made(call, read, torch.inference_mode)


def _tensors(arrays, channels_last):
    import torch

    memory = torch.channels_last if channels_last else torch.contiguous_format
    for array in arrays:
        tensor = torch.from_numpy(array)
        yield tensor.contiguous(memory_format=memory) if tensor.ndim == 4 else tensor


def convolution(problem):
    """The three operations; prepacked weights for the forward one."""
    makers = {
        "PyTorch NCHW": lambda: _convolution(problem, False),
        "PyTorch channels_last": lambda: _convolution(problem, True),
    }
    if problem.op == "forward":
        makers["PyTorch prepacked"] = lambda: _prepacked(problem)
    return makers


def _convolution(problem, channels_last):
    import torch

    x, w, b, dy = _tensors(problem.data, channels_last)
    stride, padding, dilation, groups = problem.options

    def read(result):
        return (result.numpy(),)

    if problem.op == "forward":

        def run():
            return torch.nn.functional.conv2d(x, w, b, stride, padding, dilation, groups)
    else:
        pairs = [pair(n) for n in (stride, padding, dilation)]
        which = 0 if problem.op == "input gradient" else 1
        mask = [which == 0, which == 1, False]

        def run():
            return torch.ops.aten.convolution_backward(
                dy, x, w, None, *pairs, False, [0, 0], groups, mask
            )[which]

    return _inferring(run, read)


def _prepacked(problem):
    """oneDNN's own layout for the weights, as a frozen or compiled network has them."""
    import torch

    x, w, b, _ = _tensors(problem.data, False)
    stride, padding, dilation, groups = problem.options
    how = pair(padding), pair(stride), pair(dilation), groups
    ops = torch.ops.mkldnn
    packed = ops._reorder_convolution_weight(w, *how, list(x.shape))

    def run():
        return ops._convolution_pointwise(x, packed, b, *how, "none", [], "")

    return _inferring(run, lambda result: (result.numpy(),))


def pooling(problem):
    """All operations. Its maximum always makes indices."""
    return {
        "PyTorch NCHW": lambda: _pooling(problem, False),
        "PyTorch channels_last": lambda: _pooling(problem, True),
    }


def _pooling(problem, channels_last):
    import torch

    x, dy, indices = _tensors(problem.data, channels_last)
    kernel, stride, padding = ([n, n] for n in problem.options)
    aten, functional = torch.ops.aten, torch.nn.functional
    run = {
        "max": lambda: functional.max_pool2d(x, kernel, stride, padding),
        "max, indices": lambda: functional.max_pool2d(
            x, kernel, stride, padding, return_indices=True
        ),
        "avg": lambda: functional.avg_pool2d(x, kernel, stride, padding),
        "max gradient": lambda: aten.max_pool2d_with_indices_backward(
            dy, x, kernel, stride, padding, [1, 1], False, indices
        ),
        "avg gradient": lambda: aten.avg_pool2d_backward(
            dy, x, kernel, stride, padding, False, True, None
        ),
    }[problem.op]
    return _inferring(run, lambda result: [t.numpy() for t in problem.read(result)])


def _lenet(problem):
    """The twin of fastconv's network, with its weights."""
    from torch import from_numpy
    from torch import nn as t

    pool = t.AvgPool2d if problem.pool == "avg" else t.MaxPool2d
    twin = t.Sequential(
        t.Conv2d(1, 6, 5, padding=2), t.Sigmoid(), pool(2),
        t.Conv2d(6, 16, 5), t.Sigmoid(), pool(2), t.Flatten(),
        t.Linear(400, 120), t.Sigmoid(), t.Linear(120, 84), t.Sigmoid(), t.Linear(84, 10),
    )  # fmt: skip
    twin.load_state_dict({k: from_numpy(v) for k, v in problem.net().state_dict().items()})
    return twin


def has_compiler():
    """Whether torch.compile finds the C++ compiler that it needs."""
    return any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name)


def training(problem):
    """A step, eager in both memory formats and, where there is a C++ compiler, compiled."""
    makers = {
        "PyTorch eager": lambda: _step(problem),
        "PyTorch channels_last": lambda: _step(problem, channels_last=True),
    }
    if has_compiler():
        makers["PyTorch compile"] = lambda: _step(problem, compiled=True)
    return makers


def _step(problem, channels_last=False, compiled=False):
    import torch

    net = _lenet(problem)
    x, labels = _tensors(problem.data, channels_last)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=problem.LEARNING_RATE)

    def loss_of(x, labels):
        return torch.nn.functional.cross_entropy(net(x), labels)

    if compiled:
        with warnings.catch_warnings():  # about PyTorch's own calls
            warnings.simplefilter("ignore")
            loss_of = torch.compile(loss_of)
            loss_of(x, labels).backward()

    def step():
        optimizer.zero_grad()
        loss = loss_of(x, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def read(value):
        return [value, *(p.grad.numpy() for p in net.parameters())]

    return Made(step, read)


def inference(problem):
    """Scores, batch by batch."""
    makers = {"PyTorch eager": lambda: _scores(problem)}
    if has_compiler():
        makers["PyTorch compile"] = lambda: _scores(problem, compiled=True)
    return makers


def _scores(problem, compiled=False):
    import torch

    net = _lenet(problem).eval()
    batches = [torch.from_numpy(x) for x in problem.batches()]
    if compiled:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            net = torch.compile(net)
            for x in {len(x): x for x in batches}.values():
                net(x)
    return _inferring(
        lambda: [net(x) for x in batches], lambda scores: (torch.cat(scores).numpy(),)
    )
