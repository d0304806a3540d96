"""Sizes, and a convolution as the matrix that it is."""

from __future__ import annotations

import operator

import numpy as np

from fastconv._arrays import as_array, converted, dtypes
from fastconv.spec import _padding, _pooled_size, conv_spec, pair, shape_of

__all__ = ["conv_matrix", "fully_connected_equivalent", "output_shape"]


def output_shape(input_shape, kernel_size, stride=1, padding=0, dilation=1, ceil_mode=False):
    """Size of what a sliding window leaves, for any padding, stride and dilation.

    ``P = floor((H + top + bottom - dilation (R - 1) - 1) / stride) + 1``, and likewise for the
    columns: the padded image holds ``H + top + bottom`` rows, the window spans
    ``dilation (R - 1) + 1`` of them, and what is left over is walked in strides.

    Parameters
    ----------
    input_shape : int or tuple of int
        The last two sizes are those of the image; what stands before them (batch, channels) stays.
        A single integer is one axis on its own.
    kernel_size : int or pair
    stride, dilation : int or pair
    padding : int, pair, "valid", "same", "same_lower" or ((top, bottom), (left, right))
    ceil_mode : bool
        Round up, as pooling may: a window that would start beyond the image and its left padding
        is dropped.

    Returns
    -------
    tuple of int, or int
        As many sizes as came in.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    Vincent Dumoulin and Francesco Visin, "A guide to convolution arithmetic for deep learning",
    arXiv:1603.07285, relationships 1 to 6.

    Examples
    --------
    >>> output_shape((1, 6, 28, 28), 2, stride=2)
    (1, 6, 14, 14)
    >>> output_shape((8, 8), (3, 5), stride=(3, 4), padding=(0, 1))
    (2, 2)
    >>> output_shape(100, 9, stride=4)
    23
    """
    try:
        shape, single = (1, operator.index(input_shape)), True
    except TypeError:
        try:
            shape, single = tuple(input_shape), False
        except TypeError:
            raise TypeError(
                f"input_shape: expected an integer or at least two, got {input_shape!r}"
            ) from None
        if len(shape) < 2:
            raise ValueError(
                f"input_shape: expected an integer or at least two, got {input_shape!r}"
            ) from None
    shape = shape_of("input_shape", shape, len(shape))
    if min(shape[-2:]) < 1:
        raise ValueError(f"input_shape: expected H and W of at least 1, got {input_shape!r}")
    kernel = pair("kernel_size", kernel_size)
    stride, dilation = pair("stride", stride), pair("dilation", dilation)
    if single:  # the other axis is one pixel that nothing moves over
        kernel, stride, dilation = ((1, both[1]) for both in (kernel, stride, dilation))
    padding = _padding(padding, shape[-2:], kernel, stride, dilation)
    if single:
        padding = (0, 0, *padding[2:])
    sizes = tuple(
        _pooled_size(n, r, s, before, after, d, ceil_mode)
        for n, r, s, before, after, d in zip(
            shape[-2:], kernel, stride, padding[::2], padding[1::2], dilation, strict=True
        )
    )
    if min(sizes) < 1:
        rows, columns = shape[-2] + sum(padding[:2]), shape[-1] + sum(padding[2:])
        raise ValueError(
            f"kernel_size: a {kernel[0]}x{kernel[1]} window (dilation {dilation}) does not fit the "
            f"padded input of {rows}x{columns}; the output would be "
            f"{max(sizes[0], 0)}x{max(sizes[1], 0)}"
        )
    return sizes[1] if single else (*shape[:-2], *sizes)


def conv_matrix(
    weight, input_shape, stride=1, padding=0, dilation=1, groups=1, *, sparse=False, dtype=None
):
    """The matrix A with ``A @ x.ravel() == conv2d(x, weight, ...).ravel()``.

    A convolution is a linear map, so it is a matrix: one row for each output, one column for each
    input pixel, and in a row the weights at the pixels that the output sees. Each weight stands in
    A once for each place of the window, all else is 0: that is what weight sharing and locality
    leave of a fully connected layer. ``A.T @ dy.ravel()`` is the gradient with respect to the
    input, which is the transposed convolution of dy.

    Parameters
    ----------
    weight : array of shape (K, C / groups, R, S)
    input_shape : tuple of int
        (C, H, W), or (N, C, H, W): then A has one such block for each image.
    stride, padding, dilation, groups
        As in `fastconv.conv2d`.
    sparse : bool
        Return a `scipy.sparse.csr_array`, with ``N K P Q C / groups R S`` elements at most where
        the dense matrix has ``(N K P Q) (N C H W)``. Zeros among the weights are kept in it.
    dtype : {float32, float64}, optional
        Default: what `conv2d` would compute in for this weight.

    Returns
    -------
    array of shape (N K P Q, N C H W), or scipy.sparse.csr_array

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.
    ImportError
        With `sparse`, when SciPy cannot be imported.

    References
    ----------
    Dumoulin and Visin, arXiv:1603.07285, section 4.1, "Convolution as a matrix operation".

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> edge = np.array([[[[1.0, -1.0]]]])
    >>> conv_matrix(edge, (1, 1, 4))
    array([[ 1., -1.,  0.,  0.],
           [ 0.,  1., -1.,  0.],
           [ 0.,  0.,  1., -1.]])
    """
    w = as_array("weight", weight)
    shape = shape_of("input_shape", input_shape, 3, 4)
    if dtype is None:
        dtype = dtypes(w)[0]
    elif np.dtype(dtype) not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64, got {dtype!r}")
    dtype = np.dtype(dtype)
    shape = shape if len(shape) == 4 else (1, *shape)
    spec = conv_spec(shape, w.shape, stride, padding, dilation, groups, dtype)
    w = converted("weight", w, dtype)
    if sparse:
        try:
            from scipy.sparse import coo_array
        except ImportError as error:
            raise ImportError(
                f"sparse matrices need SciPy ({error}); install it with: pip install scipy"
            ) from error
    N, C, H, W = spec.input_shape
    K, c, R, S = spec.weight_shape
    # one axis a dimension: image, filter, channel of its group, window, output
    n, k, i, r, s, p, q = np.ogrid[:N, :K, :c, :R, :S, : spec.P, : spec.Q]
    y = p * spec.stride[0] + r * spec.dilation[0] - spec.padding[0]
    x = q * spec.stride[1] + s * spec.dilation[1] - spec.padding[2]
    channel = k // (K // spec.groups) * c + i
    inside = np.broadcast_to(
        (0 <= y) & (y < H) & (0 <= x) & (x < W), (N, K, c, R, S, spec.P, spec.Q)
    )
    rows = np.broadcast_to(((n * K + k) * spec.P + p) * spec.Q + q, inside.shape)[inside]
    columns = np.broadcast_to(((n * C + channel) * H + y) * W + x, inside.shape)[inside]
    values = np.broadcast_to(w[None, ..., None, None], inside.shape)[inside]
    size = N * K * spec.P * spec.Q, N * C * H * W
    if sparse:
        return coo_array((values, (rows, columns)), shape=size).tocsr()
    matrix = np.zeros(size, dtype)
    matrix[rows, columns] = values
    return matrix


def fully_connected_equivalent(weight, groups=1):
    """The matrix M with ``conv2d(x, weight)[n, :, p, q] == M @ x[n, :, p, q]``, for a 1x1 window.

    Where the window is one pixel, only the sum over the channels is left: each pixel's channels
    pass through the same fully connected layer, independently of all other pixels. A stride only
    picks pixels, padding only adds pixels of zeros.

    Parameters
    ----------
    weight : array of shape (K, C / groups, 1, 1)
    groups : int
        M is then block diagonal.

    Returns
    -------
    array of shape (K, C)
        Float64 for integers.

    Raises
    ------
    TypeError, ValueError
        For a larger window too: there the equivalent is `conv_matrix`.

    References
    ----------
    Min Lin, Qiang Chen and Shuicheng Yan, "Network in network", arXiv:1312.4400.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> image = np.arange(12.0).reshape(3, 2, 2)
    >>> weight = np.array([[1.0, 0.0, -1.0], [0.5, 0.5, 0.0]]).reshape(2, 3, 1, 1)
    >>> M = fully_connected_equivalent(weight)
    >>> np.array_equal(fc.conv2d(image, weight), (M @ image.reshape(3, 4)).reshape(2, 2, 2))
    True
    """
    w = as_array("weight", weight)
    if w.ndim != 4:
        raise ValueError(f"weight: expected shape (K, C/groups, 1, 1), got {w.shape}")
    if w.shape[2:] != (1, 1):
        raise ValueError(
            f"weight: expected a 1x1 window, got shape {w.shape}; "
            "a larger window is a matrix over all pixels: conv_matrix"
        )
    groups = pair("groups", groups)[0]
    # with one pixel in and one out, the matrix of the whole convolution is that of the pixel
    return conv_matrix(w, (w.shape[1] * groups, 1, 1), groups=groups)
