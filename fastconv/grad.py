"""Gradients of the operations, named and ordered as in torch.nn.grad.

`grad_output` is the gradient of a scalar with respect to the operation's output; each function
returns its gradient with respect to one of the arguments. Dtypes are as in `fastconv.ops`.
"""

from __future__ import annotations

import numpy as np

from fastconv import registry
from fastconv._arrays import Result, as_array, batched, converted, dtypes, integral
from fastconv.ops import (
    LAYOUT_2D,
    as_2d,
    elementwise,
    out_with_row,
    patch_spec,
    with_empty_ends,
    with_row,
)
from fastconv.ops import fold as _fold
from fastconv.ops import unfold as _unfold
from fastconv.spec import (
    array_spec,
    conv_spec,
    conv_transpose_spec,
    pool_spec,
    shape_of,
    unpool_spec,
)

__all__ = [
    "avg_pool2d",
    "conv1d_bias",
    "conv1d_input",
    "conv1d_weight",
    "conv2d_bias",
    "conv2d_input",
    "conv2d_weight",
    "conv_transpose2d_bias",
    "conv_transpose2d_input",
    "conv_transpose2d_weight",
    "fold",
    "max_pool2d",
    "min_pool2d",
    "relu",
    "sigmoid",
    "softmax_pool2d",
    "tanh",
    "unfold",
]


def _shape(name, value, layout="NCHW"):
    """((N, C, H, W), whether there was a batch axis) from a size given as a tuple."""
    shape = shape_of(name, value, 3, 4)
    has_batch = len(shape) == 4
    if not has_batch:
        shape = (1, *shape)
    if layout == "NHWC":
        shape = (shape[0], shape[3], shape[1], shape[2])
    return shape, has_batch


def _same_batch(name, has_batch, other, other_has_batch):
    if has_batch != other_has_batch:
        raise ValueError(
            f"{name}: expected a batch axis exactly where {other} has one, "
            f"got {name} {'with' if has_batch else 'without'} and {other} "
            f"{'with' if other_has_batch else 'without'}"
        )


def _checked(name, array, shape):
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def conv2d_input(
    input_size,
    weight,
    grad_output,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCHW",
    method="auto",
    backend=None,
    out=None,
):
    """Gradient of `conv2d` with respect to its input.

    ``grad_input[n, c, y, x] = sum over k, r, s of weight[k, c, r, s] * grad_output[n, k, p, q]``
    with ``y = p * stride + r * dilation - top`` and x likewise.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input, (N, C, H, W) or (C, H, W).
    weight : array of shape (K, C / groups, R, S)
    grad_output : array of shape (N, K, P, Q) or (K, P, Q)
    stride, padding, dilation, groups, layout, method, backend, out
        As in `fastconv.conv2d`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.conv2d_input((1, 1, 3), np.array([[[[-1.0, 1.0]]]]), np.ones((1, 1, 2)))
    array([[[-1.,  0.,  1.]]])
    """
    w, dy = as_array("weight", weight), as_array("grad_output", grad_output)
    dtype, target = dtypes(w, dy)
    shape, has_batch = _shape("input_size", input_size, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input_size", has_batch)
    spec = conv_spec(shape, w.shape, stride, padding, dilation, groups, dtype)
    _checked("grad_output", dy, spec.output_shape)
    impl = registry.choose("conv2d_input", spec, method, backend, whole=integral(w, dy))
    w = np.ascontiguousarray(converted("weight", w, dtype))
    dy = converted("grad_output", dy, dtype)
    result = Result(shape, dtype, out, target, (w, dy), has_batch, layout)
    impl.run(spec, dy, w, result.array)
    return result.finish()


def conv2d_weight(
    input,
    weight_size,
    grad_output,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCHW",
    method="auto",
    backend=None,
    out=None,
):
    """Gradient of `conv2d` with respect to its weight.

    ``grad_weight[k, c, r, s] = sum over n, p, q of grad_output[n, k, p, q] * input[n, c, y, x]``
    with ``y = p * stride + r * dilation - top`` and x likewise.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
    weight_size : tuple of int
        (K, C / groups, R, S).
    grad_output : array of shape (N, K, P, Q) or (K, P, Q)
    stride, padding, dilation, groups, layout, method, backend, out
        As in `fastconv.conv2d`.

    Returns
    -------
    array of shape `weight_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.conv2d_weight(np.array([[[1.0, 2.0, 4.0]]]), (1, 1, 1, 2), np.ones((1, 1, 2)))
    array([[[[3., 6.]]]])
    """
    x, dy = as_array("input", input), as_array("grad_output", grad_output)
    dtype, target = dtypes(x, dy)
    x, has_batch = batched("input", x, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input", has_batch)
    weight_shape = shape_of("weight_size", weight_size, 4)
    spec = conv_spec(x.shape, weight_shape, stride, padding, dilation, groups, dtype)
    _checked("grad_output", dy, spec.output_shape)
    impl = registry.choose("conv2d_weight", spec, method, backend)
    x, dy = converted("input", x, dtype), converted("grad_output", dy, dtype)
    result = Result(spec.weight_shape, dtype, out, target, (x, dy), contiguous=True)
    impl.run(spec, x, dy, result.array)
    return result.finish()


def conv2d_bias(grad_output, *, layout="NCHW", backend=None, out=None):
    """Gradient of `conv2d` with respect to its bias: the sum over images and pixels.

    Parameters
    ----------
    grad_output : array of shape (N, K, P, Q) or (K, P, Q)
    layout, backend, out
        As in `fastconv.conv2d`.

    Returns
    -------
    array of shape (K,)

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.conv2d_bias(np.ones((2, 3, 4, 5)))
    array([40., 40., 40.])
    """
    dy = as_array("grad_output", grad_output)
    dtype, target = dtypes(dy)
    dy, _ = batched("grad_output", dy, layout)
    spec = array_spec(dy.shape, dtype)
    impl = registry.choose("conv2d_bias", spec, "auto", backend)
    dy = converted("grad_output", dy, dtype)
    result = Result((dy.shape[1],), dtype, out, target, (dy,), contiguous=True)
    impl.run(spec, dy, result.array)
    return result.finish()


def _row_size(size, layout):
    """A one-dimensional size as that of an image of one row."""
    size = shape_of("input_size", size, 2, 3)
    at = -1 if layout == "NCL" else -2
    return (*size[:at], 1, *size[at:])


def _without_row(result, out, layout):
    return out if out is not None else result.squeeze(-2 if layout == "NCL" else -3)


def conv1d_input(
    input_size,
    weight,
    grad_output,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCL",
    method="auto",
    backend=None,
    out=None,
):
    """Gradient of `conv1d` with respect to its input.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input, (N, C, L) or (C, L).
    weight : array of shape (K, C / groups, S)
    grad_output : array of shape (N, K, Q) or (K, Q)
    stride, padding, dilation, groups, layout, method, backend, out
        As in `fastconv.conv1d`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.conv1d_input((1, 3), np.array([[[-1.0, 1.0]]]), np.ones((1, 2)))
    array([[-1.,  0.,  1.]])
    """
    dy = with_row("grad_output", as_array("grad_output", grad_output), layout)
    w = as_array("weight", weight)
    if w.ndim != 3:
        raise ValueError(f"weight: expected shape (K, C/groups, S), got {w.shape}")
    result = conv2d_input(
        _row_size(input_size, layout),
        w[:, :, None],
        dy,
        *as_2d(stride, padding, dilation),
        groups,
        layout=LAYOUT_2D[layout],
        method=method,
        backend=backend,
        out=out_with_row(out, dy.ndim - 1, layout),
    )
    return _without_row(result, out, layout)


def conv1d_weight(
    input,
    weight_size,
    grad_output,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCL",
    method="auto",
    backend=None,
    out=None,
):
    """Gradient of `conv1d` with respect to its weight.

    Parameters
    ----------
    input : array of shape (N, C, L) or (C, L)
    weight_size : tuple of int
        (K, C / groups, S).
    grad_output : array of shape (N, K, Q) or (K, Q)
    stride, padding, dilation, groups, layout, method, backend, out
        As in `fastconv.conv1d`.

    Returns
    -------
    array of shape `weight_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.conv1d_weight(np.array([[1.0, 2.0, 4.0]]), (1, 1, 2), np.ones((1, 2)))
    array([[[3., 6.]]])
    """
    x = with_row("input", as_array("input", input), layout)
    size = shape_of("weight_size", weight_size, 3)
    result = conv2d_weight(
        x,
        (*size[:2], 1, size[2]),
        with_row("grad_output", as_array("grad_output", grad_output), layout),
        *as_2d(stride, padding, dilation),
        groups,
        layout=LAYOUT_2D[layout],
        method=method,
        backend=backend,
        out=out_with_row(out, 3, "NCL"),
    )
    return _without_row(result, out, "NCL")


def conv1d_bias(grad_output, *, layout="NCL", backend=None, out=None):
    """Gradient of `conv1d` with respect to its bias: the sum over lines and places.

    Parameters
    ----------
    grad_output : array of shape (N, K, Q) or (K, Q)
    layout, backend, out
        As in `fastconv.conv1d`.

    Returns
    -------
    array of shape (K,)

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.conv1d_bias(np.ones((2, 3, 4)))
    array([8., 8., 8.])
    """
    dy = with_row("grad_output", as_array("grad_output", grad_output), layout)
    return conv2d_bias(dy, layout=LAYOUT_2D[layout], backend=backend, out=out)


def conv_transpose2d_input(
    input_size,
    weight,
    grad_output,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    layout="NCHW",
    method="auto",
    backend=None,
    out=None,
):
    """Gradient of `conv_transpose2d` with respect to its input: `conv2d` of `grad_output`.

    Parameters
    ----------
    input_size : tuple of int
        Shape of the input, (N, C, H, W) or (C, H, W).
    weight : array of shape (C, K / groups, R, S)
    grad_output : array of shape (N, K, H', W') or (K, H', W')
    stride, padding, output_padding, groups, dilation, layout, method, backend, out
        As in `fastconv.conv_transpose2d`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> weight = np.array([[[[1.0, 2.0]]]])
    >>> fc.grad.conv_transpose2d_input((1, 1, 2), weight, np.array([[[1.0, 0.0, 1.0]]]))
    array([[[1., 2.]]])
    """
    w, dy = as_array("weight", weight), as_array("grad_output", grad_output)
    dtype, target = dtypes(w, dy)
    shape, has_batch = _shape("input_size", input_size, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input_size", has_batch)
    spec = conv_transpose_spec(
        shape, w.shape, stride, padding, output_padding, groups, dilation, dtype
    )
    _checked("grad_output", dy, spec.input_shape)
    impl = registry.choose("conv2d", spec, method, backend, whole=integral(w, dy))
    w = np.ascontiguousarray(converted("weight", w, dtype))
    dy = converted("grad_output", dy, dtype)
    result = Result(shape, dtype, out, target, (w, dy), has_batch, layout)
    if spec.output_shape == shape:
        impl.run(spec, dy, w, None, result.array, None)
    else:  # output_padding made windows that no input pixel has
        more = np.empty(spec.output_shape, dtype)
        impl.run(spec, dy, w, None, more, None)
        result.array[...] = more[:, :, : shape[2], : shape[3]]
    return result.finish()


def conv_transpose2d_weight(
    input,
    weight_size,
    grad_output,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    layout="NCHW",
    method="auto",
    backend=None,
    out=None,
):
    """Gradient of `conv_transpose2d` with respect to its weight.

    It is that of `conv2d` with input and output exchanged.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
    weight_size : tuple of int
        (C, K / groups, R, S).
    grad_output : array of shape (N, K, H', W') or (K, H', W')
    stride, padding, output_padding, groups, dilation, layout, method, backend, out
        As in `fastconv.conv_transpose2d`.

    Returns
    -------
    array of shape `weight_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image, grad = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    >>> fc.grad.conv_transpose2d_weight(image, (1, 1, 1, 2), grad)
    array([[[[ 21., 210.]]]])
    """
    x, dy = as_array("input", input), as_array("grad_output", grad_output)
    dtype, target = dtypes(x, dy)
    x, has_batch = batched("input", x, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input", has_batch)
    weight_shape = shape_of("weight_size", weight_size, 4)
    spec = conv_transpose_spec(
        x.shape, weight_shape, stride, padding, output_padding, groups, dilation, dtype
    )
    _checked("grad_output", dy, spec.input_shape)
    impl = registry.choose("conv2d_weight", spec, method, backend)
    x = with_empty_ends(converted("input", x, dtype), spec)
    dy = converted("grad_output", dy, dtype)
    result = Result(spec.weight_shape, dtype, out, target, (x, dy), contiguous=True)
    impl.run(spec, dy, x, result.array)
    return result.finish()


conv_transpose2d_bias = conv2d_bias


def max_pool2d(grad_output, indices, input_size, *, layout="NCHW", backend=None, out=None):
    """Gradient of `max_pool2d` with respect to its input.

    Each value of `grad_output` goes to the pixel that was its window's maximum; a pixel that won
    several windows gets their sum.

    Parameters
    ----------
    grad_output : array of shape (N, C, P, Q) or (C, P, Q)
    indices : integer array of the same shape
        As `max_pool2d` returned them.
    input_size : tuple of int
        Shape of the input.
    layout, backend, out
        As in `fastconv.conv2d`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError
        Also when an index lies outside its plane.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.max_pool2d(np.array([[[5.0]]]), np.array([[[2]]]), (1, 2, 2))
    array([[[0., 0.],
            [5., 0.]]])
    """
    dy = as_array("grad_output", grad_output)
    dtype, target = dtypes(dy)
    indices = np.asarray(indices)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"indices: expected integers, got dtype {indices.dtype}")
    _checked("indices", indices, dy.shape)
    shape, has_batch = _shape("input_size", input_size, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input_size", has_batch)
    indices, _ = batched("indices", indices, layout)
    if dy.shape[:2] != shape[:2]:
        raise ValueError(
            f"input_size: expected {dy.shape[0]} images of {dy.shape[1]} channels as in "
            f"grad_output, got {tuple(input_size)}"
        )
    spec = unpool_spec(shape, dy.shape, dtype)
    impl = registry.choose("max_pool2d_backward", spec, "auto", backend)
    dy = converted("grad_output", dy, dtype)
    indices = np.ascontiguousarray(indices, np.int64)
    result = Result(shape, dtype, out, target, (dy, indices), has_batch, layout)
    impl.run(spec, dy, indices, result.array)
    return result.finish()


def min_pool2d(grad_output, indices, input_size, *, layout="NCHW", backend=None, out=None):
    """Gradient of `min_pool2d` with respect to its input.

    Each value of `grad_output` goes to the pixel that was its window's minimum: the same as
    `max_pool2d` with the indices of the minima.

    Parameters
    ----------
    grad_output, indices, input_size, layout, backend, out
        As in `max_pool2d`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> _, places = fc.min_pool2d(np.array([[[3.0, 1.0]]]), (1, 2), return_indices=True)
    >>> fc.grad.min_pool2d(np.array([[[5.0]]]), places, (1, 1, 2))
    array([[[0., 5.]]])
    """
    return max_pool2d(grad_output, indices, input_size, layout=layout, backend=backend, out=out)


def softmax_pool2d(
    grad_output,
    input,
    kernel_size,
    stride=None,
    padding=0,
    beta=1.0,
    *,
    layout="NCHW",
    backend=None,
    out=None,
):
    """Gradient of `softmax_pool2d` with respect to its input.

    A pixel x with the share u of its window's sum, whose result is y, gets
    ``grad_output * u * (1 + beta * (x - y))``.

    Parameters
    ----------
    grad_output : array of shape (N, C, P, Q) or (C, P, Q)
    input : array of shape (N, C, H, W) or (C, H, W)
        What was pooled.
    kernel_size, stride, padding, beta, layout, backend, out
        As in `fastconv.softmax_pool2d`.

    Returns
    -------
    array of the shape of `input`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.softmax_pool2d(np.array([[[4.0]]]), np.ones((1, 2, 2)), 2)
    array([[[1., 1.],
            [1., 1.]]])
    """
    dy, x = as_array("grad_output", grad_output), as_array("input", input)
    dtype, target = dtypes(dy, x)
    x, has_batch = batched("input", x, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input", has_batch)
    spec = pool_spec(x.shape, kernel_size, stride, padding, dtype=dtype, beta=beta)
    _checked("grad_output", dy, spec.output_shape)
    impl = registry.choose("softmax_pool2d_backward", spec, "auto", backend)
    x, dy = converted("input", x, dtype), converted("grad_output", dy, dtype)
    result = Result(spec.input_shape, dtype, out, target, (dy, x), has_batch, layout)
    impl.run(spec, dy, x, result.array)
    return result.finish()


def unfold(
    grad_output, input_size, kernel_size, dilation=1, padding=0, stride=1, *, backend=None, out=None
):
    """Gradient of `unfold` with respect to its input: `fold`, its transpose.

    Parameters
    ----------
    grad_output : array of shape (N, C * R * S, P * Q) or (C * R * S, P * Q)
    input_size : tuple of int
        Shape of the input.
    kernel_size, dilation, padding, stride, backend, out
        As in `fastconv.unfold`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.unfold(np.ones((2, 2)), (1, 1, 3), (1, 2))
    array([[[1., 2., 1.]]])
    """
    dy = as_array("grad_output", grad_output)
    dtype, _ = dtypes(dy)
    shape, has_batch = _shape("input_size", input_size)
    spec = patch_spec(shape, kernel_size, dilation, padding, stride, dtype)
    patches = (spec.N, spec.C * spec.R * spec.S, spec.P * spec.Q)
    _checked("grad_output", dy, patches if has_batch else patches[1:])
    return _fold(dy, shape[2:], kernel_size, dilation, padding, stride, backend=backend, out=out)


def fold(grad_output, kernel_size, dilation=1, padding=0, stride=1, *, backend=None, out=None):
    """Gradient of `fold` with respect to its input: `unfold`, its transpose.

    Parameters
    ----------
    grad_output : array of shape (N, C, H, W) or (C, H, W)
    kernel_size, dilation, padding, stride, backend, out
        As in `fastconv.fold`.

    Returns
    -------
    array of shape (N, C * R * S, P * Q) or (C * R * S, P * Q)

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.fold(np.array([[[1.0, 2.0, 4.0]]]), (1, 2))
    array([[1., 2.],
           [2., 4.]])
    """
    return _unfold(grad_output, kernel_size, dilation, padding, stride, backend=backend, out=out)


def avg_pool2d(
    grad_output,
    input_size,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
    *,
    layout="NCHW",
    backend=None,
    out=None,
):
    """Gradient of `avg_pool2d` with respect to its input: each value spread over its window.

    Parameters
    ----------
    grad_output : array of shape (N, C, P, Q) or (C, P, Q)
    input_size : tuple of int
        Shape of the input.
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, layout, backend, \
out
        As in `fastconv.avg_pool2d`.

    Returns
    -------
    array of shape `input_size`

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.grad.avg_pool2d(np.array([[[4.0]]]), (1, 2, 2), 2)
    array([[[1., 1.],
            [1., 1.]]])
    """
    dy = as_array("grad_output", grad_output)
    dtype, target = dtypes(dy)
    shape, has_batch = _shape("input_size", input_size, layout)
    dy, dy_has_batch = batched("grad_output", dy, layout)
    _same_batch("grad_output", dy_has_batch, "input_size", has_batch)
    spec = pool_spec(
        shape,
        kernel_size,
        stride,
        padding,
        1,
        ceil_mode,
        dtype,
        count_include_pad,
        divisor_override,
    )
    _checked("grad_output", dy, spec.output_shape)
    impl = registry.choose("avg_pool2d_backward", spec, "auto", backend)
    dy = converted("grad_output", dy, dtype)
    result = Result(shape, dtype, out, target, (dy,), has_batch, layout)
    impl.run(spec, dy, result.array)
    return result.finish()


def relu(grad_output, output, *, backend=None, out=None):
    """Gradient through ``output = relu(x)``: ``grad_output`` where `output` is positive, else 0.

    Examples
    --------
    >>> relu([1.0, 1.0], [0.0, 2.0])
    array([0., 1.])
    """
    return elementwise(
        "relu_backward", ("grad_output", "output"), (grad_output, output), backend, out
    )


def sigmoid(grad_output, output, *, backend=None, out=None):
    """Gradient through ``output = sigmoid(x)``: ``grad_output * output * (1 - output)``.

    Examples
    --------
    >>> sigmoid([1.0], [0.5])
    array([0.25])
    """
    return elementwise(
        "sigmoid_backward", ("grad_output", "output"), (grad_output, output), backend, out
    )


def tanh(grad_output, output, *, backend=None, out=None):
    """Gradient through ``output = tanh(x)``: ``grad_output * (1 - output**2)``.

    Examples
    --------
    >>> tanh([1.0], [0.5])
    array([0.75])
    """
    return elementwise(
        "tanh_backward", ("grad_output", "output"), (grad_output, output), backend, out
    )
