"""Convolution, pooling and LeNet's training step in plain NumPy.

The `*_loops` are what one writes first: a loop over the outputs, NumPy for what a window holds. The
rest takes one matrix product (or one whole-array operation) for each tap of the kernel; in float64
that is the reference which every contender is checked against. `spec` is a fastconv `ConvSpec` or
`PoolSpec`; nothing else of fastconv is used here.
"""

import numpy as np


def padded(spec, x, value=0):
    """`x` with its border."""
    top, bottom, left, right = spec.padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def interior(spec, x):
    """The image without its border."""
    top, _, left, _ = spec.padding
    return x[:, :, top : top + spec.H, left : left + spec.W]


def taps(spec, x):
    """(r, s, view) of each tap: the pixels (n, c, p, q) that it meets in the padded `x`."""
    for r in range(spec.R):
        for s in range(spec.S):
            y, z = r * spec.dilation[0], s * spec.dilation[1]
            yield (
                r,
                s,
                x[
                    :,
                    :,
                    y : y + (spec.P - 1) * spec.stride[0] + 1 : spec.stride[0],
                    z : z + (spec.Q - 1) * spec.stride[1] + 1 : spec.stride[1],
                ],
            )


def by_group(spec, channels):
    """(N, channels, h, w) as (N, groups, channels/groups, h*w)."""
    n, c = channels.shape[:2]
    return channels.reshape(n, spec.groups, c // spec.groups, -1)


def conv2d(spec, x, w, b=None):
    """Forward: one matrix product for each tap."""
    out = np.zeros((spec.N, spec.groups, spec.K // spec.groups, spec.P * spec.Q), x.dtype)
    w = w.reshape(spec.groups, -1, *w.shape[1:])
    for r, s, pixels in taps(spec, padded(spec, x)):
        out += w[..., r, s] @ by_group(spec, pixels)
    out = out.reshape(spec.output_shape)
    return out if b is None else out + b[:, None, None]


def conv2d_input(spec, w, dy):
    """Gradient with respect to the input."""
    dx = padded(spec, np.zeros(spec.input_shape, dy.dtype))
    w = w.reshape(spec.groups, -1, *w.shape[1:])
    dy = by_group(spec, dy)
    for r, s, pixels in taps(spec, dx):
        pixels += (w[..., r, s].swapaxes(1, 2) @ dy).reshape(pixels.shape)
    return interior(spec, dx)


def conv2d_weight(spec, x, dy):
    """Gradient with respect to the weight."""
    dw = np.empty(spec.weight_shape, dy.dtype)
    dy = by_group(spec, dy)
    for r, s, pixels in taps(spec, padded(spec, x)):
        tap = (dy @ by_group(spec, pixels).swapaxes(2, 3)).sum(axis=0)
        dw[:, :, r, s] = tap.reshape(dw.shape[:2])
    return dw


def windows(spec):
    """(n, k, p, q, window) of each output; the window indexes a padded plane (without groups)."""
    for n in range(spec.N):
        for k in range(spec.K):
            for p in range(spec.P):
                for q in range(spec.Q):
                    y, z = p * spec.stride[0], q * spec.stride[1]
                    (down, along), ends = spec.dilation, (spec.R - 1, spec.S - 1)
                    rows = slice(y, y + down * ends[0] + 1, down)
                    yield n, k, p, q, np.s_[:, rows, z : z + along * ends[1] + 1 : along]


def conv2d_loops(spec, x, w, b=None):
    """Forward, output by output."""
    x = padded(spec, x)
    out = np.empty(spec.output_shape, x.dtype)
    for n, k, p, q, window in windows(spec):
        out[n, k, p, q] = (x[n][window] * w[k]).sum()
    return out if b is None else out + b[:, None, None]


def conv2d_input_loops(spec, w, dy):
    """Gradient with respect to the input, output by output."""
    dx = padded(spec, np.zeros(spec.input_shape, dy.dtype))
    for n, k, p, q, window in windows(spec):
        dx[n][window] += dy[n, k, p, q] * w[k]
    return interior(spec, dx)


def conv2d_weight_loops(spec, x, dy):
    """Gradient with respect to the weight, output by output."""
    x = padded(spec, x)
    dw = np.zeros(spec.weight_shape, dy.dtype)
    for n, k, p, q, window in windows(spec):
        dw[k] += dy[n, k, p, q] * x[n][window]
    return dw


def max_pool2d(spec, x):
    """(maxima, flat index of the first of each window): one comparison for each tap."""
    best = np.full(spec.output_shape, -np.inf, x.dtype)
    where = np.zeros(spec.output_shape, np.int64)
    flat = np.arange(spec.H * spec.W).reshape(1, 1, spec.H, spec.W)
    places = taps(spec, padded(spec, flat, -1))
    for (_, _, pixels), (_, _, place) in zip(
        taps(spec, padded(spec, x, -np.inf)), places, strict=True
    ):
        better = pixels > best
        np.copyto(best, pixels, where=better)
        np.copyto(where, place, where=better)
    return best, where


def max_pool2d_values(spec, x):
    """The maxima alone."""
    best = np.full(spec.output_shape, -np.inf, x.dtype)
    for _, _, pixels in taps(spec, padded(spec, x, -np.inf)):
        np.maximum(best, pixels, out=best)
    return best


def max_pool2d_backward(spec, dy, where):
    """Each gradient to where its maximum stood."""
    planes = spec.N * spec.C
    dx = np.zeros((planes, spec.H * spec.W), dy.dtype)
    np.add.at(dx, (np.arange(planes)[:, None], where.reshape(planes, -1)), dy.reshape(planes, -1))
    return dx.reshape(spec.input_shape)


def divisor(spec, dtype):
    """(P, Q): what average pooling divides by."""
    return np.multiply.outer(spec.row_counts, spec.col_counts).astype(dtype)


def avg_pool2d(spec, x):
    """Means: one addition for each tap."""
    total = np.zeros(spec.output_shape, x.dtype)
    for _, _, pixels in taps(spec, padded(spec, x)):
        total += pixels
    return total / divisor(spec, x.dtype)


def avg_pool2d_backward(spec, dy):
    """Each gradient spread over its window."""
    dx = padded(spec, np.zeros(spec.input_shape, dy.dtype))
    share = dy / divisor(spec, dy.dtype)
    for _, _, pixels in taps(spec, dx):
        pixels += share
    return interior(spec, dx)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def lenet_forward(weights, x, pool, specs):
    """(scores, what the convolutions keep, inputs of the linear layers), see `lenet_gradients`."""
    kept = []
    for (conv, pooling), w, b in zip(specs, weights[:4:2], weights[1:4:2], strict=True):
        a = sigmoid(conv2d(conv, x, w, b))
        if pool == "max":
            pooled, where = max_pool2d(pooling, a)
        else:
            pooled, where = avg_pool2d(pooling, a), None
        kept.append((x, a, where))
        x = pooled
    hidden = [x.reshape(len(x), -1)]
    for w, b in zip(weights[4:8:2], weights[5:8:2], strict=True):
        hidden.append(sigmoid(hidden[-1] @ w.T + b))
    return hidden[-1] @ weights[8].T + weights[9], kept, hidden


def lenet_gradients(weights, x, labels, pool, specs):
    """(loss, gradients) of the chapter's LeNet: sigmoid, `pool` "avg" or "max", cross-entropy.

    Parameters
    ----------
    weights : list of ten arrays
        Weight and bias of the two convolutions and the three linear layers.
    x : array of shape (N, 1, 28, 28)
    labels : integer array of shape (N,)
    specs : tuple of two (ConvSpec, PoolSpec)
    """
    scores, kept, hidden = lenet_forward(weights, x, pool, specs)
    scores = scores - scores.max(axis=1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    rows = np.arange(len(x))
    loss = -log_p[rows, labels].mean()

    gradients = []
    dz = np.exp(log_p)
    dz[rows, labels] -= 1
    dz /= len(x)
    for w, a in zip(weights[-2:3:-2], reversed(hidden), strict=True):
        gradients = [dz.T @ a, dz.sum(axis=0), *gradients]
        dz = dz @ w
        if a is not hidden[0]:
            dz *= a * (1 - a)
    dy = dz.reshape(specs[1][1].output_shape)
    for (conv, pooling), w, (x, a, where) in zip(
        reversed(specs), weights[2::-2], reversed(kept), strict=True
    ):
        if pool == "max":
            da = max_pool2d_backward(pooling, dy, where)
        else:
            da = avg_pool2d_backward(pooling, dy)
        dz = da * a * (1 - a)
        gradients = [conv2d_weight(conv, x, dz), dz.sum(axis=(0, 2, 3)), *gradients]
        if conv is not specs[0][0]:
            dy = conv2d_input(conv, w, dz)
    return float(loss), gradients
