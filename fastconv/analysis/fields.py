"""What an output sees of the image, and whether a network moves with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import index
from typing import Any

import numpy as np

from fastconv._arrays import as_array
from fastconv.spec import _padding, shape_of

__all__ = [
    "Equivariance",
    "Field",
    "ReceptiveFields",
    "receptive_field",
    "sensitivity",
    "shift_equivariance",
]


@dataclass(frozen=True, slots=True)
class Field:
    """What the outputs of one layer see of the network's input, as (rows, columns).

    Output (p, q) sees rows ``start[0] + p * jump[0]`` to that ``+ size[0] - 1``, and columns
    likewise, as far as these are in the image.

    Attributes
    ----------
    name : str
        As in ``state_dict``.
    layer : str
        Its class.
    size : (int, int) or None
        None: `reach` says why.
    jump : (int, int) or None
        By how much the field moves from one output to the next.
    start : (int, int) or None
        Where the field of output (0, 0) begins; negative where that is padding.
    reach : {"window", "all", "varies"}
        "all": all of the image, or what nobody knows. "varies": behind a transposed convolution of
        stride 2, say, outputs see one or two pixels in turn; `ReceptiveFields.pixels` has them.
    """

    name: str
    layer: str
    size: tuple[int, int] | None
    jump: tuple[int, int] | None
    start: tuple[int, int] | None
    reach: str = "all"

    @property
    def centre(self) -> tuple[float, float] | None:
        """The middle of the field of output (0, 0), in pixels; half a pixel for even sizes."""
        if self.size is None:
            return None
        return tuple(a + (n - 1) / 2 for a, n in zip(self.start, self.size, strict=True))

    def box(self, row: int, column: int) -> tuple[int, int, int, int] | None:
        """(top, bottom, left, right) of output (row, column), each end one past the last pixel.

        Not cut off at the image's border; None where `size` is.
        """
        if self.size is None:
            return None
        top, left = (
            a + p * j for a, p, j in zip(self.start, (row, column), self.jump, strict=True)
        )
        return top, top + self.size[0], left, left + self.size[1]


@dataclass(frozen=True, slots=True)
class ReceptiveFields:
    """The receptive field of each layer, the image's side first; ``str`` is a table.

    Attributes
    ----------
    layers : tuple of Field
    input_shape : tuple of int, or None
    """

    layers: tuple[Field, ...]
    input_shape: tuple[int, ...] | None
    # for each layer and axis: (taps, stride, dilation, padding before, pixels, outputs, transposed)
    _windows: tuple = field(repr=False, default=())

    def __iter__(self) -> Iterator[Field]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int | str) -> Field:
        """By position or by name."""
        return self.layers[_position("layer", layer, self.layers)]

    def pixels(self, layer: int | str, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows and the columns of the image that one output depends on, exactly.

        Unlike `Field.box` these leave out the image's outside, what padding between the layers
        hides, and the holes that dilation or a stride larger than the kernel leaves.

        Parameters
        ----------
        layer : int or str
            Position or name.
        row, column : int
            Of the output.

        Returns
        -------
        rows, columns : int arrays, ascending

        Examples
        --------
        >>> from fastconv import nn
        >>> fields = receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2)), (1, 1, 9, 9))
        >>> fields.pixels(0, 1, 2)
        (array([1, 3, 5]), array([2, 4, 6]))
        """
        if self.input_shape is None:
            raise ValueError("input_shape: pixels needs it; give it to receptive_field")
        position = _position("layer", layer, self.layers)
        chains = [both for both in self._windows[: position + 1] if both is not None]
        extent = self.input_shape[-2:]
        if chains:  # of lines, the first is one row
            extent = tuple(axis[4] for axis in chains[0])
        if self.layers[position].reach == "all":
            return tuple(np.arange(n) for n in extent)
        found = []
        for axis, (name, place) in enumerate((("row", row), ("column", column))):
            windows = [both[axis] for both in chains]
            outputs = windows[-1][5] if windows else extent[axis]
            if not 0 <= place < outputs:
                raise ValueError(f"{name}: expected 0 to {outputs - 1}, got {place}")
            seen = {index(place)}
            for taps, stride, dilation, before, size, _, transposed in reversed(windows):
                if transposed:  # p = at * stride + r * dilation - before
                    spread = {p + before - r * dilation for p in seen for r in range(taps)}
                    reached = {n // stride for n in spread if n % stride == 0}
                else:
                    reached = {
                        p * stride + r * dilation - before for p in seen for r in range(taps)
                    }
                seen = {at for at in reached if 0 <= at < size}
            found.append(np.array(sorted(seen), dtype=int))
        return found[0], found[1]

    def __str__(self) -> str:
        rows = [("name", "layer", "size", "jump", "start")]
        for line in self.layers:
            pairs = (line.size, line.jump, line.start)
            cells = [line.reach, "", ""]
            if line.size is not None:
                cells = [f"{a} x {b}" if i == 0 else f"{a}, {b}" for i, (a, b) in enumerate(pairs)]
            rows.append((line.name, line.layer, *cells))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(c.ljust(n) for c, n in zip(row, widths, strict=True)).rstrip() for row in rows
        )


def _position(name, layer, layers) -> int:
    if isinstance(layer, str):
        for i, line in enumerate(layers):
            if line.name == layer:
                return i
        known = ", ".join(line.name for line in layers)
        raise ValueError(f"{name}: expected one of {known}, got {layer!r}")
    try:
        position = index(layer)
    except TypeError:
        raise TypeError(f"{name}: expected a position or a name, got {layer!r}") from None
    if not -len(layers) <= position < len(layers):
        raise ValueError(
            f"{name}: expected a position from {-len(layers)} to {len(layers) - 1}, got {layer}"
        )
    return position % len(layers)


def _network_leaves(net):
    from fastconv.nn.layers import Module
    from fastconv.nn.summary import leaves

    if not isinstance(net, Module):
        raise TypeError(f"net: expected a network of fastconv.nn, got {type(net).__name__}")
    return list(leaves(net, ""))


def receptive_field(net, input_shape=None) -> ReceptiveFields:
    """What part of the image an output of each layer depends on: size, jump and start.

    From layer to layer, along each axis, with kernel k, stride s, dilation d and padding p before:
    ``size += (k - 1) d jump``, ``start -= p jump``, then ``jump *= s``; on the image itself size
    and jump are 1, start is 0. Layers that work pixel by pixel change nothing. After a layer that
    looks at everything (linear, adaptive pooling, or one of one's own) there is no field: None.
    Behind a transposed convolution of stride 1 it grows in the same way, ``start += (p - (k - 1) d)
    jump``; with a larger stride its size varies from one output to the next: None as well.

    Parameters
    ----------
    net : nn.Module
        Taken apart where it is an nn.Sequential.
    input_shape : tuple of int, optional
        (N, C, H, W) or (C, H, W), or of lines (N, C, L): for `ReceptiveFields.pixels`, and for
        "same" padding with a stride, which depends on it.

    Returns
    -------
    ReceptiveFields

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    See Also
    --------
    sensitivity : the same from gradients, and how much each pixel weighs.

    References
    ----------
    Araujo, Norris and Sim, "Computing receptive fields of convolutional neural networks", Distill,
    2019, doi:10.23915/distill.00021.

    Examples
    --------
    >>> from fastconv import nn
    >>> print(receptive_field(nn.lenet(seed=0)[:7]))
    name  layer      size     jump  start
    0     Conv2d     5 x 5    1, 1  -2, -2
    1     Sigmoid    5 x 5    1, 1  -2, -2
    2     AvgPool2d  6 x 6    2, 2  -2, -2
    3     Conv2d     14 x 14  2, 2  -2, -2
    4     Sigmoid    14 x 14  2, 2  -2, -2
    5     AvgPool2d  16 x 16  4, 4  -2, -2
    6     Flatten    all
    """
    leaves = _network_leaves(net)
    if input_shape is not None:
        input_shape = shape_of("input_shape", input_shape, 3, 4)
    return fields_of(leaves, input_shape)


def fields_of(leaves, input_shape) -> ReceptiveFields:
    """`receptive_field` of layers given as (name, layer); of images of any rank."""
    state = [(1, 1, 0), (1, 1, 0)]  # (size, jump, start) of each axis; None: all
    shape = input_shape
    reach = "window"
    lines, windows = [], []
    for name, layer in leaves:
        before, after = shape, None if shape is None else tuple(layer.output_shape(shape))
        window = layer._window()
        chain = None
        if window is not None and reach != "all":
            chain = _chain(name, window, before, after)
            if reach == "window":
                state = [_through(*both) for both in zip(state, chain, strict=True)]
                if None in state:
                    reach = "varies"
        elif window is None and not layer._pointwise:
            reach = "all"
        if reach != "window":
            state = None
        triple = (None, None, None) if state is None else tuple(zip(*state, strict=True))
        lines.append(Field(name, type(layer).__name__, *triple, reach))
        windows.append(chain)
        shape = after
    return ReceptiveFields(tuple(lines), input_shape, tuple(windows))


def _through(state, window):
    """(size, jump, start) of one axis behind a window; None where no one size is left."""
    size, jump, start = state
    taps, stride, dilation, before, _, _, transposed = window
    if not transposed:
        return size + (taps - 1) * dilation * jump, jump * stride, start - before * jump
    if stride > 1:
        return None
    # a convolution with the kernel turned round, padded by what `before` leaves of a full one
    reach = (taps - 1) * dilation
    return size + reach * jump, jump, start - (reach - before) * jump


def _chain(name, window, before, after):
    """(taps, stride, dilation, padding, pixels, outputs, transposed) of a layer, for each axis."""
    kernel, stride, dilation, padding, transposed, lines = window
    if before is None and padding in ("same", "same_lower") and tuple(stride) != (1, 1):
        raise ValueError(
            f"input_shape: layer {name!r} with padding {padding!r} and stride {tuple(stride)} "
            "needs it, got None"
        )
    sizes = (None, None) if before is None else (1, before[-1]) if lines else before[-2:]
    outputs = (None, None) if after is None else (1, after[-1]) if lines else after[-2:]
    extent = (1, 1) if before is None else sizes
    top, _, left, _ = _padding(padding, extent, kernel, stride, dilation)
    turned = transposed, transposed
    return tuple(zip(kernel, stride, dilation, (top, left), sizes, outputs, turned, strict=True))


def sensitivity(net, x, layer=-1, position=None) -> np.ndarray:
    """How much one output depends on each pixel: the gradient's size, over channels and images.

    The network runs forward and backward on a copy of itself; at the output's position each channel
    gets a gradient of 1. Pixels outside its receptive field get 0 exactly. Inside it a pixel can
    get 0 too where it does not count for these images, behind a maximum or a ReLU: more images show
    more of it. With many layers the weights concentrate in the middle, the "effective" field.

    Parameters
    ----------
    net : nn.Module
    x : array of shape (N, C, H, W) or (C, H, W)
    layer : int or str
        Position or name, as in `receptive_field`.
    position : (int, int), optional
        Row and column of the output; default: the one in the middle. Not for a layer whose outputs
        are no image: there all of them together are taken.

    Returns
    -------
    array of shape (H, W)
        The mean over images of the sum over channels of ``|d output / d pixel|``.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    Luo, Li, Urtasun and Zemel, "Understanding the effective receptive field in deep convolutional
    neural networks", 2016, arXiv:1701.04128.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2))
    >>> (sensitivity(net, np.ones((1, 6, 6)), position=(0, 1)) > 0).astype(int)
    array([[0, 0, 1, 1, 1, 1],
           [0, 0, 1, 1, 1, 1],
           [0, 0, 1, 1, 1, 1],
           [0, 0, 1, 1, 1, 1],
           [0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0]])
    """
    from fastconv.nn.layers import Sequential

    leaves = _network_leaves(net)
    lines = tuple(Field(name, type(part).__name__, None, None, None) for name, part in leaves)
    count = _position("layer", layer, lines) + 1
    x = as_array("x", x)
    if x.ndim not in (3, 4):
        raise ValueError(f"x: expected shape (N, C, H, W) or (C, H, W), got {x.shape}")
    images = x if x.ndim == 4 else x[None]
    if images.shape[0] < 1:
        raise ValueError(f"x: expected at least one image, got shape {x.shape}")
    # the caller's gradients and contexts stay as they are
    part = Sequential(*copy.deepcopy([leaf for _, leaf in leaves[:count]])).train()
    y = part(images if images.dtype.kind == "f" else images.astype(np.float64))
    seed = np.zeros_like(y)
    if y.ndim == 4:
        if position is None:
            position = y.shape[2] // 2, y.shape[3] // 2
        row, column = _output_position(position, y.shape[2:])
        seed[:, :, row, column] = 1
    elif position is not None:
        raise ValueError(
            f"position: expected None for an output of shape {y.shape}, got {position!r}"
        )
    else:
        seed[...] = 1
    return np.abs(part.backward(seed)).sum(axis=1).mean(axis=0)


def _output_position(position, extent) -> tuple[int, int]:
    place = shape_of("position", position, 2)
    if place[0] >= extent[0] or place[1] >= extent[1]:
        raise ValueError(
            f"position: expected a row and a column of the {extent[0]}x{extent[1]} output, "
            f"got {place}"
        )
    return place


@dataclass(frozen=True, slots=True)
class Equivariance:
    """What `shift_equivariance` measured.

    Attributes
    ----------
    shift : (int, int)
        Pixels by which the image was moved, down and to the right.
    output_shift : (int, int) or None
        Outputs by which the result was expected to move; None where the outputs are no image: then
        the result was expected to stay (invariance).
    whole : bool
        Whether the shift is a whole number of outputs, as it has to be for equivariance.
    compared : int
        Number of outputs that were compared.
    error : float
        Largest difference among them.
    magnitude : float
        Largest absolute value among them.
    """

    shift: tuple[int, int]
    output_shift: tuple[int, int] | None
    whole: bool
    compared: int
    error: float
    magnitude: float

    @property
    def relative_error(self) -> float:
        """`error` over `magnitude`."""
        return self.error / self.magnitude if self.magnitude else self.error

    def __str__(self) -> str:
        moved = "outputs stay" if self.output_shift is None else f"outputs by {self.output_shift}"
        nearest = "" if self.whole or self.output_shift is None else " (the nearest)"
        return (
            f"image by {self.shift}, {moved}{nearest}: {self.compared} compared, "
            f"error {self.error:.3g}, {self.relative_error:.3g} of the largest"
        )


def shift_equivariance(net, x, shift, *, window=None) -> Equivariance:
    """How far a network is from "the image moves, so the result moves".

    The image is moved by `shift` pixels, zeros coming in, and the two results are compared, one
    moved by the shift over the jump of the outputs (rounded). Only outputs take part whose
    receptive field is inside the image, before and after, so that the border plays no role. A
    convolution of stride 1 has no error but rounding; one that walks in strides, or a pooling, has
    none for shifts of a whole number of strides. A network that ends in classes is measured for
    invariance instead: its outputs should not move at all.

    Parameters
    ----------
    net : nn.Module, or a function of an array
    x : array of shape (N, C, H, W) or (C, H, W)
    shift : (int, int) or int
        Rows and columns, positive is down and to the right.
    window : (size, jump, start), optional
        The outputs' receptive field where `net` is a function, each an integer or a pair; default
        for a network: `receptive_field`.

    Returns
    -------
    Equivariance

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what came and what was expected; also where no output is left.

    References
    ----------
    Zhang, "Making convolutional networks shift-invariant again", 2019, arXiv:1904.11486.

    Examples
    --------
    >>> import numpy as np, fastconv as fc
    >>> from fastconv import nn
    >>> x = np.arange(100.0).reshape(1, 10, 10) ** 2 % 17
    >>> edge = lambda image: fc.conv2d(image, np.array([[[[1.0, -1.0]]]]))
    >>> shift_equivariance(edge, x, (2, -1), window=((1, 2), 1, 0)).error
    0.0
    >>> pool = nn.MaxPool2d(2)
    >>> shift_equivariance(pool, x, 2).error, shift_equivariance(pool, x, (0, 1)).error
    (0.0, 8.0)
    """
    x = as_array("x", x)
    if x.ndim not in (3, 4):
        raise ValueError(f"x: expected shape (N, C, H, W) or (C, H, W), got {x.shape}")
    if x.dtype.kind != "f":
        x = x.astype(np.float64)
    shift = _signed_pair("shift", shift)
    if not callable(net):
        raise TypeError(f"net: expected a network or a function, got {type(net).__name__}")
    seen = _seen_through(net, x.shape, window)
    results = [_evaluated(net, image) for image in (x, _moved(x, shift))]
    before, after = results
    if seen is None:
        error = float(np.abs(after - before).max(initial=0))
        magnitude = float(np.abs(before).max(initial=0))
        return Equivariance(shift, None, True, before.size, error, magnitude)
    if before.ndim != x.ndim:
        raise ValueError(
            f"net: expected outputs of shape (N, K, P, Q) where a window is given, "
            f"got {before.shape}"
        )
    moved, here, there, whole = [], [], [], True
    for axis, (d, (size, jump, start)) in enumerate(zip(shift, seen, strict=True)):
        extent, outputs = x.shape[-2 + axis], before.shape[-2 + axis]
        steps = (2 * d + jump) // (2 * jump)  # rounded
        whole = whole and steps * jump == d
        kept = [
            p
            for p in range(max(steps, 0), min(outputs, outputs + steps))
            if start + p * jump >= max(d, 0)
            and start + p * jump + size <= min(extent, extent + d)
            and 0 <= start + (p - steps) * jump
            and start + (p - steps) * jump + size <= extent
        ]
        if not kept:
            raise ValueError(
                f"x: no output's receptive field of {seen[0][0]}x{seen[1][0]} pixels is inside the "
                f"{x.shape[-2]}x{x.shape[-1]} image before and after a shift of {shift}"
            )
        moved.append(steps)
        there.append(slice(kept[0], kept[-1] + 1))
        here.append(slice(kept[0] - steps, kept[-1] + 1 - steps))
    expected, found = before[..., here[0], here[1]], after[..., there[0], there[1]]
    error = float(np.abs(found - expected).max(initial=0))
    magnitude = float(np.abs(expected).max(initial=0))
    return Equivariance(shift, (moved[0], moved[1]), whole, expected.size, error, magnitude)


def _signed_pair(name, value) -> tuple[int, int]:
    both = tuple(value) if isinstance(value, (tuple, list, np.ndarray)) else (value, value)
    if len(both) != 2:
        raise ValueError(f"{name}: expected one integer or two, got {value!r}")
    try:
        return index(both[0]), index(both[1])
    except TypeError:
        raise TypeError(f"{name}: expected one integer or two, got {value!r}") from None


def _seen_through(net, shape, window) -> tuple[Any, Any] | None:
    """(size, jump, start) for each axis; None where the outputs are no image."""
    from fastconv.nn.layers import Module

    if window is not None:
        try:
            size, jump, start = window
        except (TypeError, ValueError):
            raise ValueError(f"window: expected (size, jump, start), got {window!r}") from None
        axes = tuple(
            zip(*(_signed_pair("window", part) for part in (size, jump, start)), strict=True)
        )
        if min(axes[0][:2] + axes[1][:2]) < 1:
            raise ValueError(f"window: expected a size and a jump of at least 1, got {window!r}")
        return axes
    if not isinstance(net, Module):
        raise TypeError("window: expected (size, jump, start) where net is a function, got None")
    last = receptive_field(net, shape).layers[-1:]
    if not last:
        return (1, 1, 0), (1, 1, 0)
    if last[0].size is not None:
        return tuple(zip(last[0].size, last[0].jump, last[0].start, strict=True))
    if len(net.output_shape(shape)) == len(shape):
        raise ValueError(
            f"window: expected (size, jump, start), because the receptive field of "
            f"{last[0].layer} is not known, got None"
        )
    return None


def _evaluated(net, x) -> np.ndarray:
    """The result, with nothing kept for a backward pass and the network's mode as it was."""
    from fastconv.nn.layers import Module

    if not isinstance(net, Module):
        return np.asarray(net(x))
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        return net(x)
    finally:
        for module, training in modes:
            module.training = training


def _moved(x, shift) -> np.ndarray:
    """`x` moved down and to the right, zeros coming in."""
    out = np.zeros_like(x)
    source, target = [], []
    for d, n in zip(shift, x.shape[-2:], strict=True):
        d = max(-n, min(n, d))
        source.append(slice(max(-d, 0), n - max(d, 0)))
        target.append(slice(max(d, 0), n - max(-d, 0)))
    out[..., target[0], target[1]] = x[..., source[0], source[1]]
    return out
