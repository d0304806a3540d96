"""The functional interface: validate, choose an implementation, call it.

Names, order and semantics of the arguments are PyTorch's. Beyond that: `padding` takes "same" with
any stride, "same_lower" and four values; float32 and float64 mix; integers never wrap.

Dtypes. float32 and float64 are computed as such, mixed ones in float64. float16 is computed in
float32 and returned as float16. Integers and bool are computed in float64, exact up to 2**53, and
returned as float64, by `max_pool2d` in their own dtype; 64-bit integers beyond 2**53 raise.
Complex numbers and long doubles raise.
"""

from __future__ import annotations

import numpy as np

from fastconv import registry
from fastconv._arrays import (
    Result,
    as_array,
    batched,
    converted,
    dtypes,
)
from fastconv.spec import array_spec, conv_spec, pool_spec, shape_of, unpool_spec

__all__ = ["avg_pool2d", "choose_conv_method", "conv2d", "explain", "max_pool2d"]

ACTIVATIONS = (None, "relu", "sigmoid", "tanh")


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
    weight : array of shape (K, C / groups, R, S)
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
    method : {"auto", "direct", "im2col", "pointwise"}
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
    x = as_array("input", input)
    w = as_array("weight", weight)
    given = (x, w) if bias is None else (x, w, as_array("bias", bias))
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation: expected one of None, relu, sigmoid, tanh, got {activation!r}"
        )
    dtype, target = dtypes(*given)
    x, has_batch = batched("input", x, layout)
    spec = conv_spec(x.shape, w.shape, stride, padding, dilation, groups, dtype)
    impl = registry.choose("conv2d", spec, method, backend)
    x = converted("input", x, dtype)
    w = np.ascontiguousarray(converted("weight", w, dtype))
    b = None
    if bias is not None:
        b = given[2]
        if b.shape != (spec.K,):
            raise ValueError(f"bias: expected shape ({spec.K},), got {b.shape}")
        b = np.ascontiguousarray(converted("bias", b, dtype))
    result = Result(spec.output_shape, dtype, out, target, (x, w, b), has_batch, layout)
    impl.run(spec, x, w, b, result.array, activation)
    return result.finish()


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
    x = as_array("input", input)
    dtype, _ = dtypes(x)
    target = x.dtype if x.dtype.isnative else x.dtype.newbyteorder("=")
    x, has_batch = batched("input", x, layout)
    spec = pool_spec(x.shape, kernel_size, stride, padding, dilation, ceil_mode, dtype)
    impl = registry.choose("max_pool2d", spec, "auto", backend)
    x = converted("input", x, dtype)
    result = Result(spec.output_shape, dtype, out, target, (x,), has_batch, layout)
    indices = np.empty(spec.output_shape, np.int64) if return_indices else None
    impl.run(spec, x, result.array, indices)
    y = result.finish()
    if not return_indices:
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
    return result.finish()


def elementwise(op: str, names: tuple[str, ...], arrays, backend, out):
    """Run an elementwise row of the registry on arrays of one shape."""
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


# how each op of the registry makes its spec from what `explain` is given
_CALLS = {
    "conv2d": _conv_call,
    "conv2d_input": _conv_call,
    "conv2d_weight": _conv_call,
    "conv2d_bias": _bias_call,
    "max_pool2d": _max_pool_call,
    "max_pool2d_backward": _unpool_call,
    "avg_pool2d": _avg_pool_call,
    "avg_pool2d_backward": _avg_pool_call,
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
    **kwargs,
):
    """Which implementation a call would run, which were passed over, and why.

    Parameters
    ----------
    op : str
        "conv2d", "max_pool2d" or "avg_pool2d"; for the gradients "conv2d_input", "conv2d_weight",
        "conv2d_bias", "max_pool2d_backward", "avg_pool2d_backward"; "relu", "sigmoid" and "tanh",
        also with "_backward".
    input_shape : tuple of int
        (N, C, H, W) or (C, H, W); for "conv2d_bias" that of `grad_output`.
    weight_shape : tuple of int
        (K, C / groups, R, S); for the pools their `kernel_size`.
    *args, **kwargs
        stride, padding and so on, as in the call itself.
    dtype : dtype
    method, backend : str, optional

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
    return registry.explain(
        op, _CALLS[op](input_shape, weight_shape, dtype, *args, **kwargs), method, backend
    )


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
    return registry.choose("conv2d", spec, "auto", backend).method
