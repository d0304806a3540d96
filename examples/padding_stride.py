"""Padding, stride and dilation: the size of the output, and how often each pixel is used.

Without options the chapter's examples and a table of combinations; with any but the size, that one.
Each takes one number, or two for rows and columns.

    python examples/padding_stride.py [--size 8] [--kernel 3 5] [--padding 0 1] [--stride 3 4]
        [--dilation 1] [--output FOLDER]
"""

import numpy as np
from _example import figure, parser

import fastconv as fc
from fastconv import plot

CHAPTER = {  # kernel, padding, stride, dilation, on an image of 8 x 8
    "no padding": (3, 0, 1, 1),
    "padding 1 keeps the size": (3, 1, 1, 1),
    "padding for 5 x 3": ((5, 3), (2, 1), 1, 1),
    "stride 2 halves it": (3, 1, 2, 1),
    "another one for each axis": ((3, 5), (0, 1), (3, 4), 1),
    "dilation 2": (3, 0, 1, 2),
}


def explain(size, kernel, padding, stride, dilation):
    """The formula with its numbers, for rows and columns, and the shape that a convolution has."""
    image = np.ones((1, *np.broadcast_to(size, 2)), np.float32)
    weight = np.ones((1, 1, *np.broadcast_to(kernel, 2)), np.float32)
    shape = fc.conv2d(image, weight, None, stride, padding, dilation).shape[1:]
    assert shape == fc.analysis.output_shape(image.shape[1:], kernel, stride, padding, dilation)
    settings = (np.broadcast_to(each, 2) for each in (size, kernel, padding, stride, dilation))
    for axis, out, n, k, p, s, d in zip(("rows", "columns"), shape, *settings, strict=True):
        span = f"{k}" if d == 1 else f"({d} ({k} - 1) + 1)"
        print(f"    {axis}: floor(({n} + 2*{p} - {span}) / {s}) + 1 = {out}")
    print(f"    output {shape[0]} x {shape[1]}")
    return shape


def table(size):
    print(f"square kernels on {size} x {size}, output size for stride 1, 2, 3:")
    print("  padding      0        1        2")
    for kernel in (1, 2, 3, 4, 5):
        cells = [
            " ".join(str(fc.analysis.output_shape(size, kernel, s, p)) for s in (1, 2, 3))
            for p in (0, 1, 2)
        ]
        print(f"  kernel {kernel}", *(f"{cell:>7}" for cell in cells))


def draw(axes, title, size, kernel, padding, stride, dilation):
    """How many windows use each pixel, padding included, and the first window of all."""
    from matplotlib.patches import Rectangle

    (h, w), (top, left) = np.broadcast_to(size, 2), np.broadcast_to(padding, 2)
    padded = np.ones((1, h + 2 * top, w + 2 * left))
    patches = fc.unfold(padded, kernel, dilation, 0, stride)  # the windows, and back where they lie
    used = fc.fold(np.ones_like(patches), padded.shape[1:], kernel, dilation, 0, stride)[0]
    where = (-left - 0.5, w + left - 0.5, h + top - 0.5, -top - 0.5)
    axes.imshow(used, cmap="Blues", vmin=0, vmax=1.5 * used.max(), extent=where)
    if used.size <= 200:
        for (i, j), count in np.ndenumerate(used):
            axes.text(j - left, i - top, f"{count:.0f}", ha="center", va="center", fontsize=7)
    for r, s in np.ndindex(*np.broadcast_to(kernel, 2)):
        y, x = np.array([r, s]) * dilation - (top, left) - 0.5
        axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="#d9731a", linewidth=1.5))
    axes.add_patch(Rectangle((-0.5, -0.5), w, h, fill=False, edgecolor="black", clip_on=False))
    shape = fc.analysis.output_shape((h, w), kernel, stride, padding, dilation)
    axes.set_title(f"{title}\n{h} x {w} to {shape[0]} x {shape[1]}", fontsize=9)
    axes.axis("off")
    return int(used[top : top + h, left : left + w].min()), int(used.max())


def main(output, size=8, examples=CHAPTER):
    for name, settings in examples.items():
        words = zip(("kernel", "padding", "stride", "dilation"), settings, strict=True)
        print(f"{name}:", ", ".join(f"{word} {value}" for word, value in words))
        explain(size, *settings)
    if examples is CHAPTER:
        print("the book's p counts both sides, and its formula is this one: for its last example")
        print(f"  floor((8 - 3 + 0 + 3) / 3) = {(8 - 3 + 0 + 3) // 3},", end=" ")
        print(f"floor((8 - 5 + 2 + 4) / 4) = {(8 - 5 + 2 + 4) // 4}")
        table(size)
    columns = min(3, len(examples))
    rows = -(-len(examples) // columns)
    title = "How many windows use a pixel\nblack: the image, orange: the first window"
    made = figure(max(5.5, 3 * columns), 3.2 * rows + 0.6, title)
    axes = made.subplots(rows, columns, squeeze=False).ravel()
    for each, (name, settings) in zip(axes, examples.items(), strict=True):
        least, most = draw(each, name, size, *settings)
        print(f"{name}: a pixel is used {least} to {most} times")
    print("picture:", plot.save(axes, output / "padding_stride.png"))


if __name__ == "__main__":
    options = parser(__doc__)
    defaults = {"size": 8, "kernel": 3, "padding": 0, "stride": 1, "dilation": 1}
    for name, value in defaults.items():
        options.add_argument(f"--{name}", type=int, nargs="+", default=[value], metavar="N")
    given = options.parse_args()
    size, *chosen = (tuple(v) if len(v := getattr(given, n)) > 1 else v[0] for n in defaults)
    if chosen == [3, 0, 1, 1]:
        main(given.output, size)
    else:
        main(given.output, size, {"these options": chosen})
