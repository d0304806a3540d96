"""The functional interface: validate, choose an implementation, call it.

Names, order and semantics of the arguments are PyTorch's. Beyond that: `padding` takes "same" with
any stride, "same_lower" and four values; float32 and float64 mix; integers never wrap.

Dtypes. float32 and float64 are computed as such, mixed ones in float64. float16 is computed in
float32 and returned as float16. Integers and bool are computed in float64, exact up to 2**53, and
returned as float64, by `max_pool2d`, `min_pool2d` and `unfold` in their own dtype; 64-bit integers
beyond 2**53 raise. Complex numbers and long doubles raise.
"""

from __future__ import annotations

import numpy as np

from fastconv import _calls, registry
from fastconv._arrays import (
    Result,
    as_array,
    batched,
    converted,
    dtypes,
    integral,
)
from fastconv.packing import PackedConv2d
from fastconv.spec import (
    array_spec,
    conv_spec,
    conv_transpose_spec,
    pair,
    pool_spec,
    shape_of,
    unpool_spec,
)

__all__ = [
    "avg_pool2d",
    "choose_conv_method",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "explain",
    "fold",
    "max_pool2d",
    "min_pool2d",
    "softmax_pool2d",
    "unfold",
]

ACTIVATIONS = (None, "relu", "sigmoid", "tanh")


def _check_activation(activation):
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation: expected one of None, relu, sigmoid, tanh, got {activation!r}"
        )


def _bias(bias, channels, dtype):
    if bias.shape != (channels,):
        raise ValueError(f"bias: expected shape ({channels},), got {bias.shape}")
    return np.ascontiguousarray(converted("bias", bias, dtype))


def conv2d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCHW",
    activation=None,
    method="auto",
    backend=None,
    out=None,
):
    """Two-dimensional cross-correlation of images with filters (a "convolution").

    ``out[n, k, p, q] = bias[k] + sum over c, r, s of weight[k, c, r, s]
    * input[n, c, p * stride + r * dilation - top, q * stride + s * dilation - left]``,
    zero outside the image.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
        Any strides; anything with the buffer protocol or DLPack.
    weight : array of shape (K, C / groups, R, S), or what `pack_conv2d` made of one
    bias : array of shape (K,), optional
    stride, dilation : int or pair
    padding : int, pair, "valid", "same", "same_lower" or ((top, bottom), (left, right))
        "same" gives ``ceil(H / stride)`` rows, an odd pixel of padding at the end ("same_lower": at
        the start).
    groups : int
        Input and output channels are cut into this many independent groups.
    layout : {"NCHW", "NHWC"}
        Of input and output; the weight stays as it is.
    activation : {None, "relu", "sigmoid", "tanh"}
        Applied to the result while it is in the cache.
    method : {"auto", "direct", "im2col", "pointwise", "depthwise", "winograd", "fft"}
        "auto" takes the cheapest that can serve the call (`explain`). "fft", worth it for large
        kernels, has errors relative to all pixels of a tile, see Notes.
    backend : {"native", "numba", "reference"}, optional
    out : array, optional
        Where the result goes; it may overlap the inputs.

    Returns
    -------
    array of shape (N, K, P, Q), or (K, P, Q) for an unbatched input

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The output size and dtype rules are those of `fastconv.spec.conv_spec` and of this module's
    docstring.

    Errors are those of a sum, about its length times eps times the largest product. Those of "fft"
    are below ``eps * log2(points) * |x| * |w|``, with the square roots of the sums of squares over
    a tile of at most a million points and over a filter. Integers come out exactly, and NaN and
    infinities stay where they belong, with either; "fft" leaves such calls to "direct" where it
    has to.

    References
    ----------
    Vincent Dumoulin and Francesco Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.arange(1.0, 10.0).reshape(1, 3, 3)
    >>> kernel = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> fc.conv2d(image, kernel, padding="same")[0]
    array([[37., 47., 21.],
           [67., 77., 33.],
           [23., 26.,  9.]])
    """
    if type(weight) is PackedConv2d:
        packed, plain, kept = weight, None, weight
    else:
        packed, plain, kept = None, weight, _calls.conv2d
    made = (
        input,
        plain,
        bias,
        out,
        stride,
        padding,
        dilation,
        groups,
        layout,
        activation,
        method,
        backend,
    )
    calls = kept._calls
    if calls is not None:
        y = calls.run(made)
        if y is not None:
            return y
    state = _calls.state()
    x = as_array("input", input)
    w = as_array("weight", weight) if packed is None else packed._array
    given = (x, w) if bias is None else (x, w, as_array("bias", bias))
    _check_activation(activation)
    dtype, target = dtypes(*given)
    x, has_batch = batched("input", x, layout)
    spec = conv_spec(x.shape, w.shape, stride, padding, dilation, groups, dtype)
    impl = registry.choose(
        "conv2d", spec, method, backend, packed is not None, integral(*given[:2])
    )
    x = converted("input", x, dtype)
    if packed is None:
        w = np.ascontiguousarray(converted("weight", w, dtype))
    else:
        w = packed.as_dtype(dtype)
        packed = packed.buffer(impl, spec, layout)
    b = _bias(given[2], spec.K, dtype) if bias is not None else None
    result = Result(spec.output_shape, dtype, out, target, (x, w, b), has_batch, layout)
    if packed is None:
        impl.run(spec, x, w, b, result.array, activation)
    else:
        impl.run(spec, x, w, b, result.array, activation, packed=packed)
    y = result.finish()
    _calls.keep(
        kept,
        impl,
        spec,
        state,
        made,
        y,
        layout,
        None if kept is _calls.conv2d else w,
        packed,
        activation,
    )
    return y


def conv_transpose2d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    output_padding=0,
    groups=1,
    dilation=1,
    *,
    layout="NCHW",
    activation=None,
    method="auto",
    backend=None,
    out=None,
):
    """Transposed two-dimensional convolution: each input pixel spreads a filter over the output.

    ``out[n, k, p * stride + r * dilation - top, q * stride + s * dilation - left]`` collects
    ``input[n, c, p, q] * weight[c, k, r, s]``, plus ``bias[k]``. As a matrix it is the transpose of
    `conv2d` with the same weight and arguments: `fastconv.grad.conv2d_input` with a bias.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
    weight : array of shape (C, K / groups, R, S)
    bias : array of shape (K,), optional
    stride, dilation : int or pair
    padding : int, pair or ((top, bottom), (left, right))
        Pixels cropped from the output.
    output_padding : int or pair
        Rows and columns added at the output's end; smaller than the stride or the dilation.
    groups : int
    layout : {"NCHW", "NHWC"}
    activation, method, backend, out
        As in `conv2d`.

    Returns
    -------
    array of shape (N, K, H', W'), or (K, H', W') for an unbatched input
        ``H' = (H - 1) * stride - top - bottom + dilation * (R - 1) + output_padding + 1``.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    Vincent Dumoulin and Francesco Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285, chapter 4.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    >>> fc.conv_transpose2d(image, np.ones((1, 1, 2, 2)), stride=2)[0]
    array([[1., 1., 2., 2.],
           [1., 1., 2., 2.],
           [3., 3., 4., 4.],
           [3., 3., 4., 4.]])
    """
    x = as_array("input", input)
    w = as_array("weight", weight)
    given = (x, w) if bias is None else (x, w, as_array("bias", bias))
    _check_activation(activation)
    dtype, target = dtypes(*given)
    x, has_batch = batched("input", x, layout)
    spec = conv_transpose_spec(
        x.shape, w.shape, stride, padding, output_padding, groups, dilation, dtype
    )
    impl = registry.choose("conv2d_input", spec, method, backend, whole=integral(x, w))
    x = with_empty_ends(converted("input", x, dtype), spec)
    w = np.ascontiguousarray(converted("weight", w, dtype))
    b = _bias(given[2], spec.C, dtype) if bias is not None else None
    result = Result(spec.input_shape, dtype, out, target, (x, w, b), has_batch, layout)
    impl.run(spec, x, w, result.array)
    if b is not None:
        np.add(result.array, b[:, None, None], out=result.array)
    if activation is not None:
        whole = array_spec(spec.input_shape, dtype)
        row = registry.choose(activation, whole, "auto", backend)
        row.run(whole, result.array, result.array)
    return result.finish()


def with_empty_ends(x, spec):
    """The input of a transposed convolution with the rows and columns that `spec` has beyond it.

    An output padding as large as the stride makes room for further windows: they are zero.
    """
    missing = spec.P - x.shape[2], spec.Q - x.shape[3]
    if missing == (0, 0):
        return x
    return np.pad(x, ((0, 0), (0, 0), (0, missing[0]), (0, missing[1])))


def _one(name, value):
    """The only number of a one-dimensional argument."""
    if isinstance(value, (tuple, list, np.ndarray)):
        if len(value) != 1:
            raise ValueError(f"{name}: expected one integer, got {len(value)}: {value!r}")
        return value[0]
    return value


def as_2d(stride, padding, dilation):
    """Arguments of a one-dimensional operation as those of a two-dimensional one with one row."""
    if not isinstance(padding, str):
        padding = _one("padding", padding)
        if isinstance(padding, (tuple, list)):
            if len(padding) != 2:
                raise ValueError(f"padding: expected ((left, right),), got {(padding,)!r}")
            padding = ((0, 0), tuple(padding))
        else:
            padding = (0, padding)
    return (1, _one("stride", stride)), padding, (1, _one("dilation", dilation))


def with_row(name, array, layout, lengths=(2, 3)):
    """A line (N, C, L) or (C, L) as an image of one row."""
    if layout not in ("NCL", "NLC"):
        raise ValueError(f"layout: expected NCL or NLC, got {layout!r}")
    if array.ndim not in lengths:
        expected = " or ".join(f"({', '.join(layout[3 - n :])})" for n in sorted(lengths)[::-1])
        raise ValueError(f"{name}: expected shape {expected}, got {array.shape}")
    return np.expand_dims(array, -2 if layout == "NCL" else -3)


LAYOUT_2D = {"NCL": "NCHW", "NLC": "NHWC"}


def conv1d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    layout="NCL",
    activation=None,
    method="auto",
    backend=None,
    out=None,
):
    """One-dimensional cross-correlation of lines (audio, text, time series) with filters.

    ``out[n, k, q] = bias[k] + sum over c, s of weight[k, c, s]
    * input[n, c, q * stride + s * dilation - left]``, zero outside the line. It is `conv2d` on
    images of one row.

    Parameters
    ----------
    input : array of shape (N, C, L) or (C, L)
    weight : array of shape (K, C / groups, S)
        Or what `pack_conv2d` made of one of shape (K, C / groups, 1, S).
    bias : array of shape (K,), optional
    stride, dilation : int
    padding : int, "valid", "same", "same_lower" or ((left, right),)
    groups : int
    layout : {"NCL", "NLC"}
    activation, method, backend, out
        As in `conv2d`.

    Returns
    -------
    array of shape (N, K, Q), or (K, Q) for an unbatched input
        ``Q = (L + left + right - dilation * (S - 1) - 1) // stride + 1``.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.conv1d(np.array([[1.0, 2.0, 4.0, 7.0]]), np.array([[[-1.0, 1.0]]]))
    array([[1., 2., 3.]])
    """
    x = with_row("input", as_array("input", input), layout)
    if type(weight) is PackedConv2d:
        if weight.shape[2] != 1:
            raise ValueError(
                f"weight: expected a packed one of shape (K, C/groups, 1, S), got {weight.shape}"
            )
        w = weight
    else:
        w = as_array("weight", weight)
        if w.ndim != 3:
            raise ValueError(f"weight: expected shape (K, C/groups, S), got {w.shape}")
        w = w[:, :, None]
    return _on_one_row(
        conv2d(
            x,
            w,
            bias,
            *as_2d(stride, padding, dilation),
            groups,
            layout=LAYOUT_2D[layout],
            activation=activation,
            method=method,
            backend=backend,
            out=out_with_row(out, x.ndim - 1, layout),
        ),
        out,
        layout,
    )


def out_with_row(out, ndim, layout):
    """`out` of a one-dimensional operation as that of the two-dimensional one."""
    if not isinstance(out, np.ndarray):
        return out
    if out.ndim != ndim:
        raise ValueError(f"out: expected {ndim} axes, got shape {out.shape}")
    return with_row("out", out, layout)


def _on_one_row(result, out, layout):
    return out if out is not None else result.squeeze(-2 if layout == "NCL" else -3)


def max_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
    *,
    layout="NCHW",
    backend=None,
    out=None,
):
    """Maximum over a sliding window.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
    kernel_size : int or pair
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : as in `conv2d`
        With minus infinity, so a padded pixel never wins; at most half the window.
    dilation : int or pair
    ceil_mode : bool
        Round the output size up. A window that would start beyond the image and its left or top
        padding is dropped.
    return_indices : bool
        Also return where each maximum stood.
    layout : {"NCHW", "NHWC"}
    backend : str, optional
    out : array, optional

    Returns
    -------
    array of shape (N, C, P, Q)
        NaN wins. Integers keep their dtype.
    indices : int64 array of the same shape
        Flat positions in each plane of H x W; the first maximum in row-major order.
        Only with `return_indices`.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.arange(16.0).reshape(1, 4, 4)
    >>> fc.max_pool2d(image, 2, return_indices=True)
    (array([[[ 5.,  7.],
            [13., 15.]]]), array([[[ 5,  7],
            [13, 15]]]))
    """
    return _extreme_pool(
        "max_pool2d",
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
        layout,
        backend,
        out,
    )


def min_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    dilation=1,
    ceil_mode=False,
    return_indices=False,
    *,
    layout="NCHW",
    backend=None,
    out=None,
):
    """Minimum over a sliding window: ``-max_pool2d(-input)``, without the copies.

    Parameters
    ----------
    input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, layout, backend, out
        As in `max_pool2d`; the padding is infinity.

    Returns
    -------
    array of shape (N, C, P, Q)
        NaN wins. Integers keep their dtype.
    indices : int64 array of the same shape
        Flat positions in each plane of H x W; the first minimum in row-major order.
        Only with `return_indices`.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.min_pool2d(np.arange(16.0).reshape(1, 4, 4), 2)
    array([[[ 0.,  2.],
            [ 8., 10.]]])
    """
    return _extreme_pool(
        "min_pool2d",
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
        layout,
        backend,
        out,
    )


def _extreme_pool(
    op,
    input,
    kernel_size,
    stride,
    padding,
    dilation,
    ceil_mode,
    return_indices,
    layout,
    backend,
    out,
):
    made = (
        input,
        None,
        None,
        out,
        op,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        layout,
        backend,
    )
    calls = _calls.pool._calls
    if calls is not None and not return_indices:
        y = calls.run(made)
        if y is not None:
            return y
    state = _calls.state()
    x = as_array("input", input)
    dtype, _ = dtypes(x)
    target = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
    x, has_batch = batched("input", x, layout)
    spec = pool_spec(x.shape, kernel_size, stride, padding, dilation, ceil_mode, dtype)
    impl = registry.choose(op, spec, "auto", backend)
    x = converted("input", x, dtype)
    result = Result(spec.output_shape, dtype, out, target, (x,), has_batch, layout)
    indices = np.empty(spec.output_shape, np.int64) if return_indices else None
    impl.run(spec, x, result.array, indices)
    y = result.finish()
    if not return_indices:
        _calls.keep(_calls.pool, impl, spec, state, made, y, layout)
        return y
    if layout == "NHWC":
        indices = indices.transpose(0, 2, 3, 1)
    return y, indices if has_batch else indices[0]


def avg_pool2d(
    input,
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
    """Mean over a sliding window.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
    kernel_size : int or pair
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : as in `conv2d`
        With zeros; at most half the window.
    ceil_mode : bool
        Round the output size up, as in `max_pool2d`. What that adds beyond the padding is never
        counted in the divisor.
    count_include_pad : bool
        Whether padded pixels count in the divisor.
    divisor_override : int, optional
        Divide by this instead.
    layout : {"NCHW", "NHWC"}
    backend : str, optional
    out : array, optional

    Returns
    -------
    array of shape (N, C, P, Q)
        float64 for integers.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.arange(1.0, 17.0).reshape(1, 4, 4)
    >>> fc.avg_pool2d(image, 3, stride=2, padding=1, ceil_mode=True).round(4)
    array([[[ 1.5556,  3.3333,  2.    ],
            [ 6.3333, 11.    ,  6.    ],
            [ 4.5   ,  7.5   ,  4.    ]]])
    """
    made = (
        input,
        None,
        None,
        out,
        "avg_pool2d",
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
        layout,
        backend,
    )
    calls = _calls.pool._calls
    if calls is not None:
        y = calls.run(made)
        if y is not None:
            return y
    state = _calls.state()
    x = as_array("input", input)
    dtype, target = dtypes(x)
    x, has_batch = batched("input", x, layout)
    spec = pool_spec(
        x.shape,
        kernel_size,
        stride,
        padding,
        1,
        ceil_mode,
        dtype,
        count_include_pad,
        divisor_override,
    )
    impl = registry.choose("avg_pool2d", spec, "auto", backend)
    x = converted("input", x, dtype)
    result = Result(spec.output_shape, dtype, out, target, (x,), has_batch, layout)
    impl.run(spec, x, result.array)
    y = result.finish()
    _calls.keep(_calls.pool, impl, spec, state, made, y, layout)
    return y


def softmax_pool2d(
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
    """Mean over a sliding window, weighted by the softmax of `beta` times its elements.

    ``out = sum of x_i exp(beta x_i) / sum of exp(beta x_i)`` over the window's pixels in the image.
    At ``beta=0`` that is their mean; it tends to their maximum as `beta` grows, and to their
    minimum as it falls.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
        Finite; a window that holds a NaN gives NaN.
    kernel_size : int or pair
    stride : int or pair, optional
        Default: `kernel_size`.
    padding : as in `max_pool2d`
        Padded pixels take no part.
    beta : float
        In units of one over the input's.
    layout : {"NCHW", "NHWC"}
    backend : str, optional
    out : array, optional

    Returns
    -------
    array of shape (N, C, P, Q)
        float64 for integers.

    Raises
    ------
    TypeError, ValueError

    References
    ----------
    The Boltzmann operator: Asadi and Littman, "An Alternative Softmax Operator for Reinforcement
    Learning", arXiv:1612.05628, section 2.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.array([[[0.0, 1.0], [2.0, 3.0]]])
    >>> [round(fc.softmax_pool2d(image, 2, beta=b).item(), 4) for b in (-100, 0, 1, 100)]
    [0.0, 1.5, 2.4927, 3.0]
    """
    x = as_array("input", input)
    dtype, target = dtypes(x)
    x, has_batch = batched("input", x, layout)
    spec = pool_spec(x.shape, kernel_size, stride, padding, dtype=dtype, beta=beta)
    impl = registry.choose("softmax_pool2d", spec, "auto", backend)
    x = converted("input", x, dtype)
    result = Result(spec.output_shape, dtype, out, target, (x,), has_batch, layout)
    impl.run(spec, x, result.array)
    return result.finish()


def unfold(input, kernel_size, dilation=1, padding=0, stride=1, *, backend=None, out=None):
    """The patches under a sliding window, as columns ("im2col").

    ``out[n, (c * R + r) * S + s, p * Q + q] = input[n, c, p * stride + r * dilation - top,
    q * stride + s * dilation - left]``, zero outside the image. A convolution is then a matrix
    product: ``weight.reshape(K, -1) @ unfold(input, ...)``.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (C, H, W)
    kernel_size : int or pair
        R and S.
    dilation, padding, stride
        As in `conv2d`; the order is PyTorch's.
    backend : str, optional
    out : array, optional

    Returns
    -------
    array of shape (N, C * R * S, P * Q), or without N for an unbatched input
        Integers keep their dtype.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.unfold(np.arange(6).reshape(1, 2, 3), 2)
    array([[0, 1],
           [1, 2],
           [3, 4],
           [4, 5]])
    """
    x = as_array("input", input)
    dtype, _ = dtypes(x)
    target = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
    x, has_batch = batched("input", x, "NCHW")
    spec = patch_spec(x.shape, kernel_size, dilation, padding, stride, dtype)
    impl = registry.choose("unfold", spec, "auto", backend)
    x = converted("input", x, dtype)
    shape = (spec.N, spec.C * spec.R * spec.S, spec.P * spec.Q)
    result = Result(shape, dtype, out, target, (x,), has_batch)
    impl.run(spec, x, result.array)
    return result.finish()


def patch_spec(input_shape, kernel_size, dilation, padding, stride, dtype):
    """The spec of the windows that `unfold` takes out of images."""
    kernel = pair("kernel_size", kernel_size)
    return conv_spec(input_shape, (1, input_shape[1], *kernel), stride, padding, dilation, 1, dtype)


def fold(
    input, output_size, kernel_size, dilation=1, padding=0, stride=1, *, backend=None, out=None
):
    """Add patches up where `unfold` takes them from ("col2im"): its transpose, not its inverse.

    Parameters
    ----------
    input : array of shape (N, C * R * S, P * Q) or (C * R * S, P * Q)
    output_size : int or pair
        H and W.
    kernel_size, dilation, padding, stride, backend, out
        As in `unfold`.

    Returns
    -------
    array of shape (N, C, H, W) or (C, H, W)
        float64 for integers.

    Raises
    ------
    TypeError, ValueError

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> patches = fc.unfold(np.ones((1, 3, 3)), 2)
    >>> fc.fold(patches, 3, 2)[0]  # how many windows hold each pixel
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    x = as_array("input", input)
    dtype, target = dtypes(x)
    if x.ndim not in (2, 3):
        raise ValueError(f"input: expected shape (N, C*R*S, P*Q) or (C*R*S, P*Q), got {x.shape}")
    has_batch = x.ndim == 3
    if not has_batch:
        x = x[None]
    kernel = pair("kernel_size", kernel_size)
    taps = kernel[0] * kernel[1]
    if x.shape[1] == 0 or x.shape[1] % taps:
        raise ValueError(
            f"input: expected a multiple of {kernel[0]}x{kernel[1]} rows, got shape {x.shape}"
        )
    extent = pair("output_size", output_size)
    shape = (x.shape[0], x.shape[1] // taps, *extent)
    spec = patch_spec(shape, kernel, dilation, padding, stride, dtype)
    if x.shape[2] != spec.P * spec.Q:
        raise ValueError(
            f"input: expected {spec.P}x{spec.Q} = {spec.P * spec.Q} columns for an output of "
            f"{extent[0]}x{extent[1]}, got shape {x.shape}"
        )
    impl = registry.choose("fold", spec, "auto", backend)
    x = converted("input", x, dtype)
    result = Result(shape, dtype, out, target, (x,), has_batch)
    impl.run(spec, x, result.array)
    return result.finish()


def elementwise(op: str, names: tuple[str, ...], arrays, backend, out):
    """Run an elementwise row of the registry on arrays of one shape."""
    comes_again = backend is None and len(arrays) == 1
    if comes_again:
        y = _calls.element(op, arrays[0], out)
        if y is not None:
            return y
        state = _calls.state()
    arrays = tuple(as_array(name, a) for name, a in zip(names, arrays, strict=True))
    for name, a in zip(names[1:], arrays[1:], strict=True):
        if a.shape != arrays[0].shape:
            raise ValueError(
                f"{name}: expected the shape of {names[0]} {arrays[0].shape}, got {a.shape}"
            )
    dtype, target = dtypes(*arrays)
    shape = arrays[0].shape
    spec = array_spec(shape, dtype)
    impl = registry.choose(op, spec, "auto", backend)
    arrays = tuple(converted(n, a, dtype) for n, a in zip(names, arrays, strict=True))
    # an input may be `out` itself: each element is read before it is written
    result = Result(shape, dtype, out, target, [a for a in arrays if a is not out])
    impl.run(spec, *arrays, result.array)
    if comes_again:
        _calls.keep_element(op, impl, spec, state)
    return result.finish()


def relu(input, *, backend=None, out=None):
    """``max(x, 0)``, element by element; NaN stays NaN.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return elementwise("relu", ("input",), (input,), backend, out)


def sigmoid(input, *, backend=None, out=None):
    """``1 / (1 + exp(-x))``, element by element.

    Examples
    --------
    >>> sigmoid([0.0])
    array([0.5])
    """
    return elementwise("sigmoid", ("input",), (input,), backend, out)


def tanh(input, *, backend=None, out=None):
    """Hyperbolic tangent, element by element.

    Examples
    --------
    >>> tanh([0.0])
    array([0.])
    """
    return elementwise("tanh", ("input",), (input,), backend, out)


_ELEMENTWISE = ("relu", "sigmoid", "tanh", "relu_backward", "sigmoid_backward", "tanh_backward")


def _conv_call(shape, weight_shape, dtype, *args, **kwargs):
    weight_shape = shape_of("weight_shape", weight_shape, 4)
    return conv_spec(_with_batch(shape), weight_shape, *args, **kwargs, dtype=dtype)


def _max_pool_call(shape, kernel_size, dtype, stride=None, padding=0, dilation=1, ceil_mode=False):
    return pool_spec(_with_batch(shape), kernel_size, stride, padding, dilation, ceil_mode, dtype)


def _avg_pool_call(
    shape,
    kernel_size,
    dtype,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    return pool_spec(
        _with_batch(shape),
        kernel_size,
        stride,
        padding,
        1,
        ceil_mode,
        dtype,
        count_include_pad,
        divisor_override,
    )


def _unpool_call(shape, kernel_size, dtype, *args, **kwargs):
    pooled = _max_pool_call(shape, kernel_size, dtype, *args, **kwargs)
    return unpool_spec(pooled.input_shape, pooled.output_shape, dtype)


def _array_call(shape, weight_shape, dtype):
    return array_spec(tuple(shape), dtype)


def _bias_call(shape, weight_shape, dtype):
    return array_spec(_with_batch(shape), dtype)


def _with_batch(shape):
    shape = shape_of("input_shape", shape, 3, 4)
    return shape if len(shape) == 4 else (1, *shape)


def _conv1d_call(shape, weight_shape, dtype, stride=1, padding=0, dilation=1, groups=1):
    shape, weight_shape = (
        shape_of("input_shape", shape, 2, 3),
        shape_of("weight_shape", weight_shape, 3),
    )
    return _conv_call(
        (*shape[:-1], 1, shape[-1]),
        (*weight_shape[:2], 1, weight_shape[2]),
        dtype,
        *as_2d(stride, padding, dilation),
        groups,
    )


def _conv_transpose_call(shape, weight_shape, dtype, *args, **kwargs):
    weight_shape = shape_of("weight_shape", weight_shape, 4)
    return conv_transpose_spec(_with_batch(shape), weight_shape, *args, **kwargs, dtype=dtype)


def _soft_pool_call(shape, kernel_size, dtype, stride=None, padding=0, beta=1.0):
    return pool_spec(_with_batch(shape), kernel_size, stride, padding, dtype=dtype, beta=beta)


def _unfold_call(shape, kernel_size, dtype, dilation=1, padding=0, stride=1):
    return patch_spec(_with_batch(shape), kernel_size, dilation, padding, stride, dtype)


# calls that a row of another name serves
_SERVED_BY = {"conv1d": "conv2d", "conv_transpose2d": "conv2d_input"}

# how each op makes its spec from what `explain` is given
_CALLS = {
    "conv1d": _conv1d_call,
    "conv2d": _conv_call,
    "conv_transpose2d": _conv_transpose_call,
    "conv2d_input": _conv_call,
    "conv2d_weight": _conv_call,
    "conv2d_bias": _bias_call,
    "max_pool2d": _max_pool_call,
    "min_pool2d": _max_pool_call,
    "max_pool2d_backward": _unpool_call,
    "avg_pool2d": _avg_pool_call,
    "avg_pool2d_backward": _avg_pool_call,
    "softmax_pool2d": _soft_pool_call,
    "softmax_pool2d_backward": _soft_pool_call,
    "unfold": _unfold_call,
    "fold": _unfold_call,
    **dict.fromkeys(_ELEMENTWISE, _array_call),
}


def explain(
    op,
    input_shape,
    weight_shape=None,
    *args,
    dtype=np.float32,
    method="auto",
    backend=None,
    packed=False,
    **kwargs,
):
    """Which implementation a call would run, which were passed over, and why.

    Parameters
    ----------
    op : str
        A function's name: "conv2d", "conv1d", "conv_transpose2d", "max_pool2d", "min_pool2d",
        "avg_pool2d", "softmax_pool2d", "unfold", "fold"; for the gradients "conv2d_input",
        "conv2d_weight", "conv2d_bias", and "max_pool2d", "avg_pool2d", "softmax_pool2d" with
        "_backward"; "relu", "sigmoid" and "tanh", also with "_backward".
    input_shape : tuple of int
        (N, C, H, W) or (C, H, W); for "conv2d_bias" that of `grad_output`, for "fold" that of its
        result.
    weight_shape : tuple of int
        (K, C / groups, R, S); for the pools, "unfold" and "fold" their `kernel_size`.
    *args, **kwargs
        stride, padding and so on, as in the call itself.
    dtype : dtype
    method, backend : str, optional
    packed : bool
        Whether the weight comes from `pack_conv2d`.

    Returns
    -------
    fastconv.registry.Explanation
        Printing it tells the choice.

    Raises
    ------
    TypeError, ValueError, ImportError
        As the call itself would.

    Examples
    --------
    >>> import fastconv as fc
    >>> fc.explain("conv2d", (1, 8, 9, 9), (4, 8, 3, 3), backend="reference").chosen.method
    'direct'
    """
    if op not in _CALLS:
        raise ValueError(f"op: expected one of {', '.join(_CALLS)}, got {op!r}")
    if weight_shape is None and _CALLS[op] not in (_array_call, _bias_call):
        raise TypeError(f"weight_shape: {op} needs it, got None")
    dtype, _ = dtypes(as_array("dtype", np.empty(0, dtype)))
    spec = _CALLS[op](input_shape, weight_shape, dtype, *args, **kwargs)
    served_by = _SERVED_BY.get(op, op)
    if packed and served_by != "conv2d":
        raise ValueError(f"packed: expected False, {op} takes no packed weight")
    return registry.explain(served_by, spec, method, backend, bool(packed))


def choose_conv_method(input, weight, stride=1, padding=0, dilation=1, groups=1, *, backend=None):
    """The method that ``conv2d(..., method="auto")`` would use, as scipy.signal's function does.

    Parameters
    ----------
    input, weight, stride, padding, dilation, groups
        As in `conv2d`; only shapes and dtypes matter.
    backend : str, optional

    Returns
    -------
    str

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> fc.choose_conv_method(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), backend="reference")
    'direct'
    """
    x, w = as_array("input", input), as_array("weight", weight)
    dtype, _ = dtypes(x, w)
    x, _ = batched("input", x, "NCHW")
    spec = conv_spec(x.shape, w.shape, stride, padding, dilation, groups, dtype)
    return registry.choose("conv2d", spec, "auto", backend, whole=integral(x, w)).method
