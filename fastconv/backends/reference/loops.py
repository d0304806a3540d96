"""Every operation as the nested loops of its formula.

N images, C input channels of H x W, K filters of R x S, outputs of P x Q. Output (p, q) and tap
(r, s) meet at the input pixel

    y = p * stride_h + r * dilation_h - top        x = q * stride_w + s * dilation_w - left

and pixels outside the image are zero (for an extreme and the soft pooling: not there).
"""

import math
import operator

import numpy as np


def _windows(spec):
    """(p, q, r, s, y, x) of every output and tap whose pixel lies in the image."""
    top, _, left, _ = spec.padding
    for p in range(spec.P):
        for q in range(spec.Q):
            for r in range(spec.R):
                for s in range(spec.S):
                    y = p * spec.stride[0] + r * spec.dilation[0] - top
                    x = q * spec.stride[1] + s * spec.dilation[1] - left
                    if 0 <= y < spec.H and 0 <= x < spec.W:
                        yield p, q, r, s, y, x


def _channels(spec):
    """(k, c, channel of the input) of every filter and each channel of its weight."""
    per_group = spec.C // spec.groups
    for k in range(spec.K):
        group = k // (spec.K // spec.groups)
        for c in range(per_group):
            yield k, c, group * per_group + c


def conv2d(spec, input, weight, bias, out, activation):
    """out[n,k,p,q] = bias[k] + sum_{c,r,s} weight[k,c,r,s] * input[n,c,y,x]."""
    total = np.zeros(spec.output_shape)
    for n in range(spec.N):
        for k, c, channel in _channels(spec):
            for p, q, r, s, y, x in _windows(spec):
                total[n, k, p, q] += float(weight[k, c, r, s]) * float(input[n, channel, y, x])
    if bias is not None:
        total += np.asarray(bias, np.float64)[:, None, None]
    out[...] = total
    if activation is not None:
        {"relu": relu, "sigmoid": sigmoid, "tanh": tanh}[activation](spec, out, out)


def conv2d_input(spec, grad_output, weight, out):
    """out[n,c,y,x] = sum over the (k,p,q,r,s) that meet there of weight * grad_output."""
    total = np.zeros(spec.input_shape)
    for n in range(spec.N):
        for k, c, channel in _channels(spec):
            for p, q, r, s, y, x in _windows(spec):
                total[n, channel, y, x] += float(weight[k, c, r, s]) * float(
                    grad_output[n, k, p, q]
                )
    out[...] = total


def conv2d_weight(spec, input, grad_output, out):
    """out[k,c,r,s] = sum_{n,p,q} grad_output[n,k,p,q] * input[n,c,y,x]."""
    total = np.zeros(spec.weight_shape)
    for n in range(spec.N):
        for k, c, channel in _channels(spec):
            for p, q, r, s, y, x in _windows(spec):
                total[k, c, r, s] += float(grad_output[n, k, p, q]) * float(input[n, channel, y, x])
    out[...] = total


def conv2d_bias(spec, grad_output, out):
    """out[k] = sum_{n,p,q} grad_output[n,k,p,q]."""
    N, K, P, Q = spec.shape
    for k in range(K):
        total = 0.0
        for n in range(N):
            for p in range(P):
                for q in range(Q):
                    total += float(grad_output[n, k, p, q])
        out[k] = total


def _extreme(spec, input, out, indices, beats):
    """The element that beats all others of its window; NaN does, and the first of equals stays."""
    for n in range(spec.N):
        for c in range(spec.C):
            best, where = {}, {}
            for p, q, _, _, y, x in _windows(spec):
                value = input[n, c, y, x]
                if (p, q) not in best or beats(value, best[p, q]) or math.isnan(value):
                    best[p, q], where[p, q] = value, y * spec.W + x
            for p in range(spec.P):
                for q in range(spec.Q):
                    out[n, c, p, q] = best[p, q]
                    if indices is not None:
                        indices[n, c, p, q] = where[p, q]


def max_pool2d(spec, input, out, indices):
    """out[n,c,p,q] = max_{r,s} input[n,c,y,x]; NaN wins, else the first maximum."""
    _extreme(spec, input, out, indices, operator.gt)


def min_pool2d(spec, input, out, indices):
    """out[n,c,p,q] = min_{r,s} input[n,c,y,x]; NaN wins, else the first minimum."""
    _extreme(spec, input, out, indices, operator.lt)


def max_pool2d_backward(spec, grad_output, indices, out):
    """out[n,c,i] = sum of grad_output[n,c,p,q] over the (p,q) with indices[n,c,p,q] = i."""
    for n in range(spec.N):
        for c in range(spec.C):
            plane = [0.0] * (spec.H * spec.W)
            for p in range(spec.P):
                for q in range(spec.Q):
                    i = int(indices[n, c, p, q])
                    if not 0 <= i < spec.H * spec.W:
                        raise ValueError(
                            f"indices: expected values from 0 to {spec.H * spec.W - 1}, got {i}"
                        )
                    plane[i] += float(grad_output[n, c, p, q])
            out[n, c] = np.array(plane).reshape(spec.H, spec.W)


def _divisor(spec, p, q):
    if spec.divisor_override is not None:
        return spec.divisor_override
    return spec.row_counts[p] * spec.col_counts[q]


def avg_pool2d(spec, input, out):
    """out[n,c,p,q] = sum_{r,s} input[n,c,y,x] / divisor[p,q]."""
    for n in range(spec.N):
        for c in range(spec.C):
            total = np.zeros((spec.P, spec.Q))
            for p, q, _, _, y, x in _windows(spec):
                total[p, q] += float(input[n, c, y, x])
            for p in range(spec.P):
                for q in range(spec.Q):
                    out[n, c, p, q] = total[p, q] / _divisor(spec, p, q)


def avg_pool2d_backward(spec, grad_output, out):
    """out[n,c,y,x] = sum over the windows (p,q) that hold (y,x) of grad_output / divisor."""
    for n in range(spec.N):
        for c in range(spec.C):
            total = np.zeros((spec.H, spec.W))
            for p, q, _, _, y, x in _windows(spec):
                total[y, x] += float(grad_output[n, c, p, q]) / _divisor(spec, p, q)
            out[n, c] = total


def _soft_windows(spec, plane):
    """(members, shares, mean) of each window of a plane: its pixels and e^(beta x) / their sum."""
    members = {}
    for p, q, _, _, y, x in _windows(spec):
        members.setdefault((p, q), []).append((y, x))
    for place, pixels in members.items():
        values = [float(plane[pixel]) for pixel in pixels]
        top = max(spec.beta * v for v in values)
        powers = [math.exp(spec.beta * v - top) for v in values]
        shares = [e / sum(powers) for e in powers]
        mean = sum(u * v for u, v in zip(shares, values, strict=True))
        yield place, list(zip(pixels, shares, values, strict=True)), mean


def softmax_pool2d(spec, input, out):
    """out[n,c,p,q] = sum_{r,s} x e^(beta x) / sum_{r,s} e^(beta x), x = input[n,c,y,x]."""
    for n in range(spec.N):
        for c in range(spec.C):
            for (p, q), _, mean in _soft_windows(spec, input[n, c]):
                out[n, c, p, q] = mean


def softmax_pool2d_backward(spec, grad_output, input, out):
    """out[n,c,y,x] = sum over its windows of grad_output * share * (1 + beta * (x - mean))."""
    for n in range(spec.N):
        for c in range(spec.C):
            total = np.zeros((spec.H, spec.W))
            for (p, q), members, mean in _soft_windows(spec, input[n, c]):
                for pixel, share, value in members:
                    slope = share * (1 + spec.beta * (value - mean))
                    total[pixel] += float(grad_output[n, c, p, q]) * slope
            out[n, c] = total


def unfold(spec, input, out):
    """out[n, (c,r,s), (p,q)] = input[n,c,y,x]; zero outside the image."""
    out[...] = 0
    for n in range(spec.N):
        for c in range(spec.C):
            for p, q, r, s, y, x in _windows(spec):
                out[n, (c * spec.R + r) * spec.S + s, p * spec.Q + q] = input[n, c, y, x]


def fold(spec, input, out):
    """out[n,c,y,x] = sum over the (p,q,r,s) that meet there of input[n, (c,r,s), (p,q)]."""
    total = np.zeros(spec.input_shape)
    for n in range(spec.N):
        for c in range(spec.C):
            for p, q, r, s, y, x in _windows(spec):
                total[n, c, y, x] += float(input[n, (c * spec.R + r) * spec.S + s, p * spec.Q + q])
    out[...] = total


def _elementwise(function):
    def run(spec, *arrays):
        *inputs, out = arrays
        for i in np.ndindex(out.shape):
            out[i] = function(*(float(a[i]) for a in inputs))

    run.__doc__ = function.__doc__
    return run


@_elementwise
def relu(x):
    """max(x, 0); NaN stays NaN."""
    return x if x > 0 or math.isnan(x) else 0.0


@_elementwise
def relu_backward(grad_output, output):
    """grad_output where output > 0, else 0."""
    return grad_output if output > 0 else 0.0


@_elementwise
def sigmoid(x):
    """1 / (1 + exp(-x)), in the form that does not overflow."""
    e = math.exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


@_elementwise
def sigmoid_backward(grad_output, output):
    """grad_output * output * (1 - output)."""
    return grad_output * output * (1 - output)


@_elementwise
def tanh(x):
    """Hyperbolic tangent."""
    return math.tanh(x)


@_elementwise
def tanh_backward(grad_output, output):
    """grad_output * (1 - output^2)."""
    return grad_output * (1 - output * output)
