"""Pictures of what a network makes of images, and of what its outputs see of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from fastconv._arrays import as_array
from fastconv.analysis import fields
from fastconv.spec import shape_of

from ._figure import GREY, figure, frame

_NOISE_IMAGES = 32  # enough to see past the zeros of single images behind a ReLU or a maximum
_EFFECTIVE = 1 - 0.9545  # share of the largest gradient from which a pixel counts
_OUTSIDE, _SEEN = "#e6e6e6", "deepskyblue"


def activations(
    net,
    x: np.ndarray,
    layers: Iterable[int | str] | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
) -> np.ndarray:
    """Feature maps: what some layers make of images, each channel a picture, on one colour scale.

    One block for each layer, in it one row for each image: the image in grey, then the channels.
    The scale goes from 0 to the largest value on the sheet; where there are negative values, white
    is 0, red above it and blue below. The network computes as in evaluation, its mode stays.

    Parameters
    ----------
    net : nn.Module
    x : (N, C, H, W) or (C, H, W) array, or (N, H, W) uint8 array
        uint8 pixels are divided by 255, as in `fastconv.nn.predict`.
    layers : sequence of int or str, optional
        Positions or names of layers, as in ``state_dict`` ("0" of "0.weight"); those inside nested
        Sequentials count one by one. Default: the first two convolutions, each with the activation
        right after it.
    names : sequence of str, optional
        One for each image; default: "image 0", "image 1", ...
    title : str

    Returns
    -------
    array of matplotlib Axes, of shape (layers, N, 1 + channels)
        At ``[i, n, 0]`` image n and at ``[i, n, 1 + k]`` channel k of layer i. None where a layer
        has fewer channels than another.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> from fastconv import nn, plot
    >>> x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    >>> axes = plot.activations(nn.lenet(seed=0), x, layers=[1, "4"], names=["coat", "bag"])
    >>> axes.shape, axes[0, 1, 0].get_title(), axes[1, 0, 16].images[0].get_array().shape
    ((2, 2, 17), 'bag', (10, 10))
    """
    leaves = fields._network_leaves(net)
    images = _as_images(net, x)
    if names is None:
        names = [f"image {n}" for n in range(len(images))]
    if isinstance(names, str) or len(names) != len(images):
        got = repr(names) if isinstance(names, str) else len(names)
        raise ValueError(f"names: expected {len(images)}, one for each image, got {got}")
    maps = [(i, _maps(leaves, i, images)) for i in _chosen(leaves, layers)]

    most = max(y.shape[1] for _, y in maps)
    width = float(np.clip(0.75 * (1 + most), 7, 18))
    tallest = float(np.clip(6 / len(images), 0.8, 2.0))  # many images: smaller ones
    cells = [min(width / (1 + y.shape[1]), tallest) for _, y in maps]
    heights = [0.35 + len(images) * (cell + 0.2) for cell in cells]
    picture = figure(width + 0.8, sum(heights) + (0.4 if title else 0.05), title)
    left, right = picture.subfigures(1, 2, width_ratios=[width, 0.8])
    blocks = np.ravel(left.subfigures(len(maps), 1, height_ratios=heights))
    scale = _scale([y for _, y in maps])
    grid = np.full((len(maps), len(images), 1 + most), None, object)
    for block, row, cell, (i, y) in zip(blocks, grid, cells, maps, strict=True):
        name, layer = leaves[i]
        used = cell * (1 + y.shape[1])
        if used < 0.98 * width:
            block = block.subfigures(1, 2, width_ratios=[used, width - used])[0]
        channels = f"{y.shape[1]} channel{'s' * (y.shape[1] > 1)} of {y.shape[2]} x {y.shape[3]}"
        block.suptitle(_layer_title(name, layer, channels), fontsize=10)
        row[:, : 1 + y.shape[1]] = block.subplots(len(images), 1 + y.shape[1], squeeze=False)
        for n, line in enumerate(row):
            _draw_image(line[0], images, n)
            line[0].set_title(names[n], fontsize=8, pad=3)
            for k, axes in enumerate(line[1 : 1 + y.shape[1]]):
                shown = axes.imshow(y[n, k], interpolation="nearest", **scale)
                if n == 0:
                    axes.set_title(f"{k}", fontsize=7, color=GREY, pad=3)
            for axes in line[: 1 + y.shape[1]]:
                axes.axis("off")
    bar = picture.colorbar(shown, cax=right.add_axes((0.1, 0.2, 0.22, 0.6)))
    bar.ax.tick_params(labelsize=8)
    bar.ax.set_title("output", fontsize=8)
    return grid


def receptive_field(
    net,
    input_shape: tuple[int, ...],
    layer: int | str | None = None,
    position: tuple[int, int] | None = None,
    x: np.ndarray | None = None,
    title: str = "",
) -> np.ndarray:
    """What one output sees of the image, and beside it how much each pixel counts for it.

    On the left a box for each layer up to `layer`: the field of the output in the middle of what
    the next ones see (`fastconv.analysis.receptive_field`), with padding as grey around the image.
    On the right the size of the gradient (`fastconv.analysis.sensitivity`), as a share of its
    largest value. Its title gives the effective size, by Luo and others: the side of a square of as
    many pixels as have more than 4.55 % (1 less two standard deviations' 95.45 %) of the largest.

    Parameters
    ----------
    net : nn.Module
    input_shape : tuple of int
        (N, C, H, W) or (C, H, W).
    layer : int or str, optional
        Position or name, as in `activations`; default: the last that does not see everything.
    position : (int, int), optional
        Row and column of the output; default: the one in the middle.
    x : array of shape (N, C, H, W) or (C, H, W), or (N, H, W) of uint8, optional
        Images for the gradient, the first of them for the picture; default: noise.
    title : str

    Returns
    -------
    array of 2 matplotlib Axes
        The boxes, and the gradient.

    Raises
    ------
    ImportError
        Without matplotlib.
    TypeError, ValueError
        Naming the argument, what came and what was expected.

    References
    ----------
    Luo, Li, Urtasun and Zemel, "Understanding the effective receptive field in deep convolutional
    neural networks", 2016, arXiv:1701.04128.

    Examples
    --------
    >>> from fastconv import nn, plot
    >>> boxes, gradient = plot.receptive_field(nn.lenet(seed=0), (1, 28, 28), layer=2)
    >>> print(boxes.get_title())
    layer 2, AvgPool2d
    output (7, 7) sees 6 x 6 pixels
    """
    leaves = fields._network_leaves(net)
    input_shape = shape_of("input_shape", input_shape, 3, 4)
    images = _noise(net, input_shape) if x is None else _as_images(net, x)
    if images.shape[1:] != input_shape[-3:]:
        raise ValueError(
            f"x: expected images of shape {input_shape[-3:]} as in input_shape, "
            f"got {images.shape[1:]}"
        )
    found = fields.fields_of(leaves, (1, *input_shape[-3:]))
    last = _last_field(found, layer)
    field = found[last]
    outputs = _upto(leaves, last).output_shape((1, *input_shape[-3:]))[-2:]
    if position is None:
        position = outputs[0] // 2, outputs[1] // 2
    position = fields._output_position(position, outputs)
    gradient = fields.sensitivity(net, images, last, position)

    boxes = _nested_boxes(found.layers[: last + 1], position)
    height = float(np.clip(4.0 * input_shape[-2] / input_shape[-1], 1.5, 12))
    lines_below = -(-len(boxes) // 2)
    picture = figure(9.6, height + 1.0 + 0.19 * lines_below + 0.25 * bool(title), title)
    grid = picture.subplots(1, 2)
    # noise would only be in the way of the boxes
    _draw_image(grid[0], images if x is not None else np.zeros((1, 1, *input_shape[-2:])), 0)
    _draw_fields(grid[0], boxes)
    _draw_gradient(grid[1], gradient, boxes[-1][1])
    _show_all(grid, input_shape[-2:], [box for _, box in boxes])

    output = f"output ({position[0]}, {position[1]})"
    inside = _inside(boxes[-1][1], input_shape[-2:])
    sees = f"{field.size[0]} x {field.size[1]} pixels"
    if inside != field.size:
        sees += f", {inside[0]} x {inside[1]} of the image"
    grid[0].set_title(f"{_layer_title(*leaves[last])}\n{output} sees {sees}", fontsize=10)
    side = np.sqrt(np.count_nonzero(gradient > _EFFECTIVE * gradient.max()))
    count = f"{len(images)} image{'s' * (len(images) > 1)}{' of noise' * (x is None)}"
    grid[1].set_title(
        f"gradient of {output} over {count}\neffective size {side:.1f} x {side:.1f} pixels",
        fontsize=10,
    )
    return grid


def _as_images(net, x) -> np.ndarray:
    """(N, C, H, W) in the network's dtype."""
    from fastconv.nn.train import _net_dtype

    x = as_array("x", x)
    if x.ndim == 3:
        x = x[:, None] if x.dtype == np.uint8 else x[None]
    if x.ndim != 4 or not x.size:
        raise ValueError(
            "x: expected shape (N, C, H, W) or (C, H, W), or (N, H, W) of uint8, with at least "
            f"one image, got {x.dtype} of shape {x.shape}"
        )
    dtype = _net_dtype(net)
    x = x / dtype.type(255) if x.dtype == np.uint8 else x
    x = x.astype(dtype, copy=False)
    if not np.isfinite(x).all():
        raise ValueError("x: expected finite numbers, got infinite ones or NaN")
    return x


def _noise(net, input_shape) -> np.ndarray:
    shape = (_NOISE_IMAGES, *input_shape[-3:])
    return _as_images(net, np.random.default_rng(0).random(shape, np.float32))


def _upto(leaves, last: int):
    """The network as far as one of its layers, which it shares."""
    from fastconv.nn.layers import Sequential

    return Sequential(*[layer for _, layer in leaves[: last + 1]])


def _chosen(leaves, layers) -> list[int]:
    """Positions of the layers to show."""
    from fastconv.nn.layers import Conv2d, _Activation

    if layers is None:
        found = [i for i, (_, layer) in enumerate(leaves) if isinstance(layer, Conv2d)][:2]
        if not found:
            raise ValueError("layers: expected positions or names, as net has no Conv2d, got None")
        after = [layer for _, layer in leaves[1:]] + [None]
        return [i + isinstance(after[i], _Activation) for i in found]
    if isinstance(layers, str) or not isinstance(layers, Iterable):
        raise TypeError(f"layers: expected a sequence of positions or names, got {layers!r}")
    lines = _lines(leaves)
    found = [fields._position("layers", layer, lines) for layer in layers]
    if not found:
        raise ValueError("layers: expected at least one, got none")
    return found


def _lines(leaves) -> list[fields.Field]:
    return [fields.Field(name, type(part).__name__, None, None, None) for name, part in leaves]


def _maps(leaves, last: int, images: np.ndarray) -> np.ndarray:
    """(N, K, P, Q): the outputs of one layer."""
    y = fields._evaluated(_upto(leaves, last), images)
    name, layer = leaves[last]
    if y.ndim != 4:
        raise ValueError(
            f"layers: expected layers whose outputs are (N, K, P, Q), "
            f"got {name!r} ({type(layer).__name__}) with outputs of shape {y.shape}"
        )
    if not np.isfinite(y).all():
        raise ValueError(f"net: expected finite outputs, got others from layer {name!r}")
    return y


def _scale(maps: list[np.ndarray]) -> dict:
    """Colours for imshow: white is 0 where there are values on both sides of it."""
    low, high = min(float(y.min()) for y in maps), max(float(y.max()) for y in maps)
    if low < 0:
        peak = max(-low, high)
        return {"cmap": "RdBu_r", "vmin": -peak, "vmax": peak}
    return {"cmap": "viridis", "vmin": 0.0, "vmax": high or 1.0}


def _layer_title(name: str, layer, *more: str) -> str:
    kind = type(layer).__name__
    return ": ".join((f"layer {name}, {kind}" if name else kind, *more))


def _draw_image(axes, images: np.ndarray, n: int) -> None:
    """Image n in grey, dark is more; in colours where there are three channels."""
    image = images[n]
    low, high = float(images.min()), float(images.max())
    image = (image - low) / ((high - low) or 1.0)
    if len(image) == 3:
        axes.imshow(np.moveaxis(image, 0, -1), interpolation="nearest")
    else:
        axes.imshow(image.mean(axis=0), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    frame(axes, image.shape[1:])


def _last_field(found: fields.ReceptiveFields, layer) -> int:
    """Position of the layer whose field is to be drawn."""
    known = [i for i, line in enumerate(found) if line.size is not None]
    if layer is None:
        if not known:
            raise ValueError("net: expected a layer that does not see everything, got none")
        return known[-1]
    last = fields._position("layer", layer, found.layers)
    if last not in known:
        names = ", ".join(found[i].name for i in known)
        raise ValueError(
            f"layer: expected one with a receptive field ({names}), "
            f"got {layer!r} ({found[last].layer}), which sees all of the image"
        )
    return last


def _nested_boxes(lines, position) -> list[tuple[fields.Field, tuple[int, int, int, int]]]:
    """(layer, box) of each layer that changes the field, each around the middle of the next one's.

    In the order of the layers. Of two outputs as near to that middle the first is taken, which lies
    inside the next box as the nearest one does.
    """
    at = tuple(position)
    boxes: list = []
    for after, line in zip((None, *lines[:0:-1]), lines[::-1], strict=True):
        if after is not None:
            middle = [c + p * j for c, p, j in zip(after.centre, at, after.jump, strict=True)]
            at = tuple(
                int(np.ceil((m - c) / j - 0.5))
                for m, c, j in zip(middle, line.centre, line.jump, strict=True)
            )
            if (after.size, after.start, after.jump) == (line.size, line.start, line.jump):
                # an activation: the box is that of the layer before, which gives the name
                if len(boxes) > 1:
                    boxes[-1] = line, boxes[-1][1]
                continue
        boxes.append((line, line.box(*at)))
    return boxes[::-1]


def _draw_fields(axes, boxes) -> None:
    """The box of each layer, and below them which is whose."""
    from matplotlib import colormaps

    colours = colormaps["turbo"](np.linspace(0.08, 0.92, len(boxes)))
    # the outer ones thicker and below: where edges lie on each other, both are seen
    widths = np.linspace(1.6, 1.6 + min(0.6 * (len(boxes) - 1), 3.0), len(boxes))
    for (line, box), colour, thick in zip(boxes, colours, widths, strict=True):
        label = f"{line.name} {line.layer}: {line.size[0]} x {line.size[1]}".lstrip()
        style = {"edgecolor": colour, "linewidth": thick, "zorder": 4 - thick / 10}
        _draw_box(axes, box, label=label, **style)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.08)}
    legend = axes.legend(**place, ncols=2, fontsize=8, frameon=False)
    for patch in legend.get_patches():
        patch.set_linewidth(2)


def _draw_gradient(axes, gradient, box) -> None:
    """The gradient as a share of its largest value, and the box that it is to be found in."""
    share = gradient / (float(gradient.max()) or 1.0)
    shown = axes.imshow(share, cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    _draw_box(axes, box, edgecolor=_SEEN, linewidth=2, linestyle="--")
    bar = axes.figure.colorbar(shown, ax=axes, shrink=0.7, aspect=25)
    bar.set_label("|gradient|, share of the largest", fontsize=8)
    bar.ax.tick_params(labelsize=8)


def _draw_box(axes, box, **style) -> None:
    from matplotlib.patches import Rectangle

    top, bottom, left, right = box
    # pixel (i, j) is the square around that point
    axes.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, **style)
    )


def _show_all(grid, extent, boxes) -> None:
    """The same part of the plane in both pictures: the image, the boxes and a margin."""
    tops, bottoms, lefts, rights = zip((0, extent[0], 0, extent[1]), *boxes, strict=True)
    for axes in grid:
        axes.set_xlim(min(lefts) - 1, max(rights))
        axes.set_ylim(max(bottoms), min(tops) - 1)
        axes.set_facecolor(_OUTSIDE)
        axes.tick_params(labelsize=8, length=2)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True)


def _inside(box, extent) -> tuple[int, int]:
    top, bottom, left, right = box
    return min(bottom, extent[0]) - max(top, 0), min(right, extent[1]) - max(left, 0)
