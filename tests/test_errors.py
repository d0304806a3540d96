"""Every error once: it names the argument, what came and what was expected.

Messages about names of methods and backends are in test_registry.py, those of the environment in
test_config.py.
"""

import numpy as np
import pytest

import fastconv as fc
from fastconv import grad, ops
from fastconv.spec import conv_spec, pool_spec

X = np.ones((2, 4, 6, 7))
W = np.ones((6, 4, 3, 3))
DY = np.ones((2, 6, 4, 5))
POOLED = np.ones((2, 4, 3, 3))
INDICES = np.zeros((2, 4, 3, 3), np.int64)


def read_only(shape):
    array = np.ones(shape)
    array.flags.writeable = False
    return array


# id: (call, exception, the whole message as a regular expression)
ERRORS = {
    # packed weights
    "packed weight, axes": (
        lambda: fc.pack_conv2d(W[0]),
        ValueError,
        r"weight: expected shape \(K, C/groups, R, S\) of sizes of at least 1, got shape "
        r"\(4, 3, 3\)",
    ),
    "packed weight, empty": (
        lambda: fc.pack_conv2d(W[:0]),
        ValueError,
        r"weight: expected shape .* of at least 1, got shape \(0, 4, 3, 3\)",
    ),
    "packed weight, complex": (
        lambda: fc.pack_conv2d(W.astype(complex)),
        TypeError,
        "weight: expected real numbers of up to 64 bits, got dtype complex128",
    ),
    "packed weight, stride": (
        lambda: fc.pack_conv2d(W, stride=0),
        ValueError,
        "stride: expected at least 1, got 0",
    ),
    "packed weight, padding": (
        lambda: fc.pack_conv2d(W, padding="full"),
        ValueError,
        "padding: expected integers or one of same, same_lower, valid, got 'full'",
    ),
    "packed weight, groups": (
        lambda: fc.pack_conv2d(W, groups=4),
        ValueError,
        "groups: expected a divisor of the 16 input and 6 output channels, got 4",
    ),
    "packed weight, layout": (
        lambda: fc.pack_conv2d(W, layout="HWIO"),
        ValueError,
        "layout: expected NCHW or NHWC, got 'HWIO'",
    ),
    "packed weight, method": (
        lambda: fc.pack_conv2d(W, method="fast"),
        ValueError,
        "method: expected one of auto, direct, .*, got 'fast'",
    ),
    "packed weight, backend": (
        lambda: fc.pack_conv2d(W, backend="best"),
        ValueError,
        "backend: expected one of native, numba, reference, got 'best'",
    ),
    "packed weight, input shape": (
        lambda: fc.pack_conv2d(W, (6, 7)),
        ValueError,
        r"input_shape: expected 3 or 4 sizes, got \(6, 7\)",
    ),
    "packed weight, channels of the input": (
        lambda: fc.pack_conv2d(W, (2, 3, 6, 7)),
        ValueError,
        r"weight: expected 3 input channels \(input has 3, groups 1\), got shape \(6, 4, 3, 3\)",
    ),
    "packed weight, groups of a call": (
        lambda: fc.conv2d(X, fc.pack_conv2d(W), groups=2),
        ValueError,
        r"weight: expected 2 input channels \(input has 4, groups 2\), got shape \(6, 4, 3, 3\)",
    ),
    "packed weight, gradient": (
        lambda: fc.explain("conv2d_input", X.shape, W.shape, packed=True),
        ValueError,
        "packed: expected False, conv2d_input takes no packed weight",
    ),
    # tune
    "tune, op": (
        lambda: fc.tune("conv3d", X.shape, W.shape),
        ValueError,
        "op: expected one of conv2d, conv2d_input, conv2d_weight, got 'conv3d'",
    ),
    "tune, packed gradient": (
        lambda: fc.tune("conv2d_weight", X.shape, W.shape, packed=True),
        ValueError,
        "packed: expected False, conv2d_weight takes no packed weight",
    ),
    "tune, layout": (
        lambda: fc.tune("conv2d", X.shape, W.shape, layout="NCL"),
        ValueError,
        "layout: expected NCHW or NHWC, got 'NCL'",
    ),
    "tune, rounds": (
        lambda: fc.tune("conv2d", X.shape, W.shape, rounds=0),
        ValueError,
        "rounds: expected at least 1, got 0",
    ),
    "tune, kind of rounds": (
        lambda: fc.tune("conv2d", X.shape, W.shape, rounds=1.5),
        TypeError,
        "rounds: expected an integer, got float 1.5",
    ),
    "tune, weight shape": (
        lambda: fc.tune("conv2d", X.shape, W.shape[1:]),
        ValueError,
        r"weight_shape: expected 4 sizes, got \(4, 3, 3\)",
    ),
    "tune, dtype": (
        lambda: fc.tune("conv2d", X.shape, W.shape, dtype=complex),
        TypeError,
        "dtype: expected real numbers of up to 64 bits, got dtype complex128",
    ),
    "tune, backend": (
        lambda: fc.tune("conv2d", X.shape, W.shape, backend="cuda"),
        ValueError,
        "backend: expected one of native, numba, reference, got 'cuda'",
    ),
    # arrays
    "complex": (
        lambda: fc.conv2d(X.astype(complex), W),
        TypeError,
        "input: expected real numbers of up to 64 bits, got dtype complex128",
    ),
    "objects": (
        lambda: fc.conv2d(X, W.astype(object)),
        TypeError,
        "weight: expected real numbers of up to 64 bits, got dtype object",
    ),
    "strings": (
        lambda: fc.max_pool2d("image.png", 2),
        TypeError,
        "input: expected real numbers of up to 64 bits, got dtype <U9",
    ),
    "ragged lists": (
        lambda: fc.avg_pool2d([[[1, 2], [3]]], 1),
        ValueError,
        "input: cannot be made an array: .*inhomogeneous.*",
    ),
    "large integers": (
        lambda: fc.conv2d(np.full((1, 1, 1), 2**53 + 1), np.ones((1, 1, 1, 1))),
        ValueError,
        r"input: 64-bit integers are computed in float64, exact up to 2\*\*53; "
        "got values from 9007199254740993 to 9007199254740993",
    ),
    "large unsigned integers": (
        lambda: fc.max_pool2d(np.array([[[0, 2**64 - 1]]], np.uint64), 1),
        ValueError,
        "input: 64-bit integers are .* got values from 0 to 18446744073709551615",
    ),
    "two axes": (
        lambda: fc.conv2d(X[0, 0], W),
        ValueError,
        r"input: expected shape \(N, C, H, W\) or \(C, H, W\), got \(6, 7\)",
    ),
    "five axes": (
        lambda: fc.max_pool2d(X[None], 2, layout="NHWC"),
        ValueError,
        r"input: expected shape \(N, H, W, C\) or \(H, W, C\), got \(1, 2, 4, 6, 7\)",
    ),
    "layout": (
        lambda: fc.conv2d(X, W, layout="CHWN"),
        ValueError,
        "layout: expected NCHW or NHWC, got 'CHWN'",
    ),
    "out, kind": (
        lambda: fc.conv2d(X, W, out=DY.tolist()),
        TypeError,
        "out: expected a numpy.ndarray, got list",
    ),
    "out, shape": (
        lambda: fc.conv2d(X, W, out=np.ones((2, 6, 5, 4))),
        ValueError,
        r"out: expected shape \(2, 6, 4, 5\), got \(2, 6, 5, 4\)",
    ),
    "out, shape in NHWC": (
        lambda: fc.max_pool2d(X[0], 2, layout="NHWC", out=np.ones((3, 2, 7))),
        ValueError,
        r"out: expected shape \(2, 3, 7\), got \(3, 2, 7\)",
    ),
    "out, dtype": (
        lambda: fc.conv2d(X, W, out=DY.astype(np.float32)),
        TypeError,
        "out: expected dtype float64, got float32",
    ),
    "out, byte order": (
        lambda: fc.conv2d(X, W, out=DY.astype(">f8")),
        TypeError,
        "out: expected dtype float64, got >f8",
    ),
    "out, read-only": (
        lambda: fc.conv2d(X, W, out=read_only(DY.shape)),
        ValueError,
        "out: expected a writable array, got a read-only one",
    ),
    # integers, pairs and shapes
    "stride, float": (
        lambda: fc.conv2d(X, W, stride=1.0),
        TypeError,
        "stride: expected an integer, got float 1.0",
    ),
    "stride, bool": (
        lambda: fc.max_pool2d(X, 2, (1, True)),
        TypeError,
        "stride: expected an integer, got True",
    ),
    "stride, too small": (
        lambda: fc.avg_pool2d(X, 2, (2, 0)),
        ValueError,
        "stride: expected at least 1, got 0",
    ),
    "stride, too large": (
        lambda: fc.conv2d(X, W, stride=2**31),
        ValueError,
        r"stride: expected less than 2\*\*31, got 2147483648",
    ),
    "dilation, three": (
        lambda: fc.conv2d(X, W, dilation=(1, 2, 3)),
        ValueError,
        r"dilation: expected one integer or two, got 3: \(1, 2, 3\)",
    ),
    "kernel_size": (
        lambda: fc.max_pool2d(X, 0),
        ValueError,
        "kernel_size: expected at least 1, got 0",
    ),
    "groups, text": (
        lambda: fc.conv2d(X, W, groups="2"),
        TypeError,
        "groups: expected an integer, got str '2'",
    ),
    "input_size, kind": (
        lambda: grad.conv2d_input(6, W, DY),
        TypeError,
        "input_size: expected a tuple of integers, got 6",
    ),
    "input_size, length": (
        lambda: grad.avg_pool2d(POOLED, (6, 7), 2),
        ValueError,
        r"input_size: expected 3 or 4 sizes, got \(6, 7\)",
    ),
    "input_size, float": (
        lambda: grad.conv2d_input((2, 4, 6, 7.5), W, DY),
        TypeError,
        "input_size: expected an integer, got float 7.5",
    ),
    "input_size, negative": (
        lambda: grad.conv2d_input((2, 4, 6, -7), W, DY),
        ValueError,
        "input_size: expected at least 0, got -7",
    ),
    "weight_size": (
        lambda: grad.conv2d_weight(X, (4, 3, 3), DY),
        ValueError,
        r"weight_size: expected 4 sizes, got \(4, 3, 3\)",
    ),
    # padding
    "padding, name": (
        lambda: fc.conv2d(X, W, padding="full"),
        ValueError,
        "padding: expected integers or one of same, same_lower, valid, got 'full'",
    ),
    "padding, negative": (
        lambda: fc.conv2d(X, W, padding=-1),
        ValueError,
        "padding: expected at least 0, got -1",
    ),
    "padding, negative side": (
        lambda: fc.conv2d(X, W, padding=((0, -1), (0, 0))),
        ValueError,
        "padding: expected at least 0, got -1",
    ),
    "padding, four in a row": (
        lambda: fc.conv2d(X, W, padding=(1, 1, 1, 1)),
        ValueError,
        r"padding: expected one integer or two, got 4: \(1, 1, 1, 1\)",
    ),
    "padding, uneven sides": (
        lambda: fc.conv2d(X, W, padding=((1, 1), 1)),
        ValueError,
        r"padding: expected \(\(top, bottom\), \(left, right\)\), got \(\(1, 1\), 1\)",
    ),
    "padding, beyond half the kernel": (
        lambda: fc.max_pool2d(X, 3, padding=(1, 2)),
        ValueError,
        r"padding: expected at most half the 3x3 kernel, got \(top, bottom, left, right\) = "
        r"\(1, 1, 2, 2\)",
    ),
    "padding, windows without a pixel": (
        lambda: fc.max_pool2d(np.ones((1, 1, 1)), 2, 1, 1, 2),
        ValueError,
        r"padding: with dilation \(2, 2\) some 2x2 windows would hold no pixel of the 1x1 input, "
        r"got \(top, bottom, left, right\) = \(1, 1, 1, 1\)",
    ),
    # shapes that do not go together
    "conv_spec, input": (
        lambda: conv_spec((4, 6, 7), W.shape),
        ValueError,
        r"input: expected shape \(N, C, H, W\), got \(4, 6, 7\)",
    ),
    "pool_spec, input": (
        lambda: pool_spec((4, 6, 7), 2),
        ValueError,
        r"input: expected shape \(N, C, H, W\), got \(4, 6, 7\)",
    ),
    "weight, axes": (
        lambda: fc.conv2d(X, W[0]),
        ValueError,
        r"weight: expected shape \(K, C/groups, R, S\), got \(4, 3, 3\)",
    ),
    "input, no rows": (
        lambda: fc.conv2d(X[:, :, :0], W, padding=2),
        ValueError,
        r"input: expected C, H and W of at least 1, got shape \(2, 4, 0, 7\)",
    ),
    "input, no channels": (
        lambda: fc.avg_pool2d(X[:, :0], 2),
        ValueError,
        r"input: expected C, H and W of at least 1, got shape \(2, 0, 6, 7\)",
    ),
    "weight, no filters": (
        lambda: fc.conv2d(X, W[:0]),
        ValueError,
        r"weight: expected K, R and S of at least 1, got shape \(0, 4, 3, 3\)",
    ),
    "groups, no divisor": (
        lambda: fc.conv2d(X, W, groups=3),
        ValueError,
        "groups: expected a divisor of the 4 input and 6 output channels, got 3",
    ),
    "weight, channels": (
        lambda: fc.conv2d(X, W, groups=2),
        ValueError,
        r"weight: expected 2 input channels \(input has 4, groups 2\), got shape \(6, 4, 3, 3\)",
    ),
    "weight, too large": (
        lambda: fc.conv2d(X, W, dilation=(1, 5), padding=1),
        ValueError,
        r"weight: a 3x3 kernel \(dilation \(1, 5\)\) does not fit the padded input of 8x9; "
        "the output would be 6x0",
    ),
    "kernel_size, too large": (
        lambda: fc.max_pool2d(X, (3, 8)),
        ValueError,
        r"kernel_size: a 3x8 window \(dilation \(1, 1\)\) does not fit the padded input of 6x7; "
        "the output would be 2x0",
    ),
    "bias": (
        lambda: fc.conv2d(X, W, np.ones(4)),
        ValueError,
        r"bias: expected shape \(6,\), got \(4,\)",
    ),
    "grad_output, shape": (
        lambda: grad.conv2d_input(X.shape, W, DY[:, :, 1:]),
        ValueError,
        r"grad_output: expected shape \(2, 6, 4, 5\), got \(2, 6, 3, 5\)",
    ),
    "grad_output, shape for the weight": (
        lambda: grad.conv2d_weight(X, W.shape, DY, padding=1),
        ValueError,
        r"grad_output: expected shape \(2, 6, 6, 7\), got \(2, 6, 4, 5\)",
    ),
    "grad_output, shape for a pool": (
        lambda: grad.avg_pool2d(POOLED, X.shape, 3),
        ValueError,
        r"grad_output: expected shape \(2, 4, 2, 2\), got \(2, 4, 3, 3\)",
    ),
    "grad_output, batch": (
        lambda: grad.conv2d_input(X.shape, W, DY[0]),
        ValueError,
        "grad_output: expected a batch axis exactly where input_size has one, "
        "got grad_output without and input_size with",
    ),
    "grad_output, batch for the weight": (
        lambda: grad.conv2d_weight(X[0], W.shape, DY),
        ValueError,
        "grad_output: expected a batch axis exactly where input has one, "
        "got grad_output with and input without",
    ),
    "indices, shape": (
        lambda: grad.max_pool2d(POOLED, INDICES[0], X.shape),
        ValueError,
        r"indices: expected shape \(2, 4, 3, 3\), got \(4, 3, 3\)",
    ),
    "indices, dtype": (
        lambda: grad.max_pool2d(POOLED, POOLED, X.shape),
        TypeError,
        "indices: expected integers, got dtype float64",
    ),
    "indices, planes": (
        lambda: grad.max_pool2d(POOLED, INDICES, (2, 3, 6, 7)),
        ValueError,
        "input_size: expected 2 images of 4 channels as in grad_output, "
        r"got \(2, 3, 6, 7\)",
    ),
    "indices, value": (
        lambda: grad.max_pool2d(POOLED, INDICES + 42, X.shape),
        ValueError,
        "indices: expected values from 0 to 41, got 42",
    ),
    "output, shape": (
        lambda: grad.relu(X, X[0]),
        ValueError,
        r"output: expected the shape of grad_output \(2, 4, 6, 7\), got \(4, 6, 7\)",
    ),
    # other arguments
    "activation": (
        lambda: fc.conv2d(X, W, activation="gelu"),
        ValueError,
        "activation: expected one of None, relu, sigmoid, tanh, got 'gelu'",
    ),
    "divisor_override, zero": (
        lambda: fc.avg_pool2d(X, 2, divisor_override=0),
        ValueError,
        "divisor_override: expected a number other than 0, got 0",
    ),
    "divisor_override, float": (
        lambda: fc.avg_pool2d(X, 2, divisor_override=2.5),
        TypeError,
        "divisor_override: expected an integer, got float 2.5",
    ),
    "activation's input": (
        lambda: ops.relu(["a"]),
        TypeError,
        "input: expected real numbers of up to 64 bits, got dtype <U1",
    ),
    "explain, op": (
        lambda: fc.explain("conv", X.shape, W.shape),
        ValueError,
        "op: expected one of conv1d, conv2d, .*tanh_backward, got 'conv'",
    ),
    "explain, nothing but the input": (
        lambda: fc.explain("conv2d", X.shape),
        TypeError,
        "weight_shape: conv2d needs it, got None",
    ),
    "explain, shape": (
        lambda: fc.explain("conv2d", X.shape[2:], W.shape),
        ValueError,
        r"input_shape: expected 3 or 4 sizes, got \(6, 7\)",
    ),
    # one dimension, the transpose, patches
    "conv1d, input": (
        lambda: fc.conv1d(X, W[0]),
        ValueError,
        r"input: expected shape \(N, C, L\) or \(C, L\), got \(2, 4, 6, 7\)",
    ),
    "conv1d, weight": (
        lambda: fc.conv1d(X[0], W),
        ValueError,
        r"weight: expected shape \(K, C/groups, S\), got \(6, 4, 3, 3\)",
    ),
    "conv1d, layout": (
        lambda: fc.conv1d(X[0], W[0], layout="NCHW"),
        ValueError,
        "layout: expected NCL or NLC, got 'NCHW'",
    ),
    "conv1d, stride": (
        lambda: fc.conv1d(X[0], np.ones((5, 6, 3)), stride=(1, 2)),
        ValueError,
        r"stride: expected one integer, got 2: \(1, 2\)",
    ),
    "conv1d, padding": (
        lambda: fc.conv1d(X[0], np.ones((5, 6, 3)), padding=((1, 2, 3),)),
        ValueError,
        r"padding: expected \(\(left, right\),\), got \(\(1, 2, 3\),\)",
    ),
    "conv1d, out": (
        lambda: fc.conv1d(X[0], np.ones((5, 6, 3)), out=np.ones((4, 5, 1, 5))),
        ValueError,
        r"out: expected 3 axes, got shape \(4, 5, 1, 5\)",
    ),
    "conv_transpose2d, weight": (
        lambda: fc.conv_transpose2d(X, W),
        ValueError,
        r"weight: expected shape \(C, K/groups, R, S\) with the input's C = 4 and nothing empty, "
        r"got \(6, 4, 3, 3\)",
    ),
    "conv_transpose2d, axes of the weight": (
        lambda: fc.conv_transpose2d(X, W[0]),
        ValueError,
        r"weight: expected shape \(C, K/groups, R, S\), got \(4, 3, 3\)",
    ),
    "conv_transpose2d, empty": (
        lambda: fc.conv_transpose2d(X[:, :, :0], W[:4]),
        ValueError,
        r"input: expected C, H and W of at least 1, got shape \(2, 4, 0, 7\)",
    ),
    "conv_transpose2d, named padding": (
        lambda: fc.conv_transpose2d(X, W[:4], padding="same"),
        TypeError,
        "padding: expected integers, got 'same'",
    ),
    "conv_transpose2d, padding": (
        lambda: fc.conv_transpose2d(X, W[:4], padding=4),
        ValueError,
        r"padding: \(top, bottom, left, right\) = \(4, 4, 4, 4\) crops everything: "
        "the output would be 0x1",
    ),
    "conv_transpose2d, groups": (
        lambda: fc.conv_transpose2d(X, W[:4], groups=3),
        ValueError,
        "groups: expected a divisor of the 4 input channels, got 3",
    ),
    "output_padding": (
        lambda: fc.conv_transpose2d(X, W[:4], stride=2, output_padding=(1, 2)),
        ValueError,
        r"output_padding: expected less than the stride \(2, 2\) or the dilation \(1, 1\), "
        r"got \(1, 2\)",
    ),
    "beta, infinite": (
        lambda: fc.softmax_pool2d(X, 2, beta=np.inf),
        ValueError,
        "beta: expected a finite number, got inf",
    ),
    "beta, text": (
        lambda: fc.softmax_pool2d(X, 2, beta="1"),
        TypeError,
        "beta: expected a number, got '1'",
    ),
    "beta, list": (
        lambda: fc.softmax_pool2d(X, 2, beta=[1]),
        TypeError,
        r"beta: expected a number, got \[1\]",
    ),
    "fold, axes": (
        lambda: fc.fold(X, 3, 2),
        ValueError,
        r"input: expected shape \(N, C\*R\*S, P\*Q\) or \(C\*R\*S, P\*Q\), "
        r"got \(2, 4, 6, 7\)",
    ),
    "fold, rows": (
        lambda: fc.fold(X[0], 3, 2),
        ValueError,
        r"input: expected a multiple of 2x2 rows, got shape \(4, 6, 7\)",
    ),
    "fold, columns": (
        lambda: fc.fold(np.ones((8, 7)), 3, 2),
        ValueError,
        r"input: expected 2x2 = 4 columns for an output of 3x3, got shape \(1, 8, 7\)",
    ),
    # settings
    "num_threads, zero": (
        lambda: fc.using(num_threads=0),
        ValueError,
        "num_threads: expected at least 1, got 0",
    ),
    "flush_denormals": (
        lambda: fc.using(flush_denormals="0"),
        TypeError,
        "flush_denormals: expected True or False, got '0'",
    ),
    "num_threads, float": (
        lambda: fc.set_num_threads(2.0),
        TypeError,
        "n: expected an integer, got float 2.0",
    ),
    "using, backend": (
        lambda: fc.using(backend="fast"),
        ValueError,
        "backend: expected one of native, numba, reference, got 'fast'",
    ),
    "using, method": (
        lambda: fc.using(method="fast"),
        ValueError,
        "method: expected one of auto, direct, im2col, pointwise, depthwise, winograd, fft, "
        "got 'fast'",
    ),
    "no such name": (
        lambda: fc.conv4d,
        AttributeError,
        "module 'fastconv' has no attribute 'conv4d'",
    ),
}


@pytest.mark.parametrize("call, exception, message", ERRORS.values(), ids=ERRORS)
def test_error(call, exception, message):
    with pytest.raises(exception, match=f"^{message}$"):
        call()


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is a double here")
def test_long_doubles():
    with pytest.raises(TypeError, match="input: expected real numbers of up to 64 bits, got dtype"):
        fc.conv2d(X.astype(np.longdouble), W)


def test_a_wrong_call_leaves_out_as_it_was():
    out = np.full(DY.shape, 7.0)
    with pytest.raises(ValueError, match="weight"):
        fc.conv2d(X, W[0], out=out)
    assert (out == 7).all()
