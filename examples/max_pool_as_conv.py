"""Pooling by convolutions: the average is one, the maximum takes ReLU as well.

A convolution is linear and a maximum is not, so no kernel is a maximum. But
max(a, b) = relu(a - b) + b, a convolution can pick one pixel of each window as a and another as b,
and a 1x1 convolution subtracts them.

    python examples/max_pool_as_conv.py [--output FOLDER]
"""

import numpy as np
from _example import figure, grid, photograph, run

import fastconv as fc
from fastconv import plot


def larger(planes):
    """From the channels a, b: relu(a - b), and max(a, b)."""
    minus = np.array([1.0, -1.0]).reshape(1, 2, 1, 1)
    rest = fc.conv2d(planes, minus, activation="relu")
    return rest[0], (rest + planes[1:])[0]


def main(output):
    image = np.array([[[1, 5, 2, 0], [3, 2, 4, 4], [7, 0, 1, 9], [6, 8, 3, 2]]], float)
    picks = np.eye(4).reshape(4, 1, 2, 2)  # four kernels, each a single 1
    planes = fc.conv2d(image, picks, stride=2)  # the four pixels of each window as channels
    (rest1, top), (rest2, bottom) = larger(planes[:2]), larger(planes[2:])
    _, largest = larger(np.stack([top, bottom]))
    print("by three comparisons:", largest.tolist())
    print("max_pool2d:          ", fc.max_pool2d(image, 2)[0].tolist())

    photo = photograph()[None]
    for kernel, stride, padding in ((2, 2, 0), (3, 2, 1), (3, 1, 0)):
        ours = fc.analysis.max_pool_by_relu(photo, kernel, stride, padding)
        error = np.abs(ours - fc.max_pool2d(photo, kernel, stride, padding)).max()
        print(f"photograph, {kernel}x{kernel}, stride {stride}, padding {padding}:", end=" ")
        print(f"{kernel * kernel - 1} comparisons a window, within float32 {error < 1e-6}")
    lines = fc.max_pool2d(photo, 2) + fc.max_pool2d(-photo, 2)
    print(f"a linear map f has f(x) + f(-x) = 0; the maximum has up to {lines.max():.2f}")
    lowest = -fc.max_pool2d(-photo, 2)
    print("a minimum is -max(-x):", np.array_equal(lowest, fc.min_pool2d(photo, 2)))

    box = fc.kernels.box(2)[None, None]
    print("the average is the convolution with", box[0, 0].tolist(), "and stride 2:", end=" ")
    print(fc.conv2d(image, box, stride=2)[0].tolist())
    as_conv = fc.analysis.avg_pool_as_conv(3, 2)  # one group for each channel
    colours = photograph(colour=True).astype(float)
    same = np.allclose(as_conv(colours), fc.avg_pool2d(colours, 2), rtol=1e-14)
    print(f"in colour, weight {as_conv.weight.shape}, groups {as_conv.groups}: equal {same}")

    made = figure(8.2, 4.0, "2 x 2 maximum pooling with convolutions and ReLU")
    axes = made.subplots(2, 5)
    first = [image[0], *planes]
    names = ["image", "a: top left", "b: top right", "c: bottom left", "d: bottom right"]
    second = [rest1, top, rest2, bottom, largest]
    names += ["relu(a - b)", "+ b: max(a, b)", "relu(c - d)", "+ d: max(c, d)", "max of all four"]
    for each, array, name in zip(axes.ravel(), first + second, names, strict=True):
        grid(each, array, name, largest=9)
    print("picture:", plot.save(axes, output / "max_pool_as_conv.png"))


if __name__ == "__main__":
    run(main, __doc__)
