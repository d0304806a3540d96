"""1x1 convolutions: a matrix product over the channels, the same for every pixel.

A kernel of one pixel sees no neighbours. What is left is a fully connected layer from the input
channels to the output channels, with the pixels as its batch.

    python examples/one_by_one.py [--output FOLDER]
"""

import numpy as np
from _example import figure, photograph, run

import fastconv as fc
from fastconv import plot


def as_product(image, weight):
    """(K, C) @ (C, H W), the chapter's `corr2d_multi_in_out_1x1`."""
    c, h, w = image.shape
    return (weight.reshape(-1, c) @ image.reshape(c, h * w)).reshape(-1, h, w)


def main(output):
    rng = np.random.default_rng(0)
    image, weight = rng.standard_normal((3, 3, 3)), rng.standard_normal((2, 3, 1, 1))
    product, convolved = as_product(image, weight), fc.conv2d(image, weight)
    print(f"the chapter's sizes: {image.shape} to {convolved.shape}, equal", end=" ")
    print(np.allclose(product, convolved, rtol=1e-14, atol=1e-14))

    # many channels, integers: every sum is exact, whatever its order
    image, weight = rng.integers(-9, 10, (256, 14, 14)), rng.integers(-9, 10, (64, 256, 1, 1))
    product = as_product(image, weight)
    for method in ("pointwise", "im2col", "direct"):
        same = np.array_equal(product, fc.conv2d(image, weight, method=method))
        print(f'integers, 256 channels, method="{method}": equal {same}')
    # in float32 each method adds up in its own order, and rounds where that leads
    image, weight = (a.astype(np.float32) / 7 for a in (image, weight))
    exact = as_product(image.astype(float), weight.astype(float))
    for method in ("pointwise", "im2col", "direct"):
        error = np.abs(fc.conv2d(image, weight, method=method) - exact).max() / exact.max()
        print(f'float32, method="{method}": equal up to rounding, {error < 1e-6}')
    matrix = fc.analysis.fully_connected_equivalent(weight)
    print(f"as a fully connected layer for each pixel: a matrix of {matrix.shape}")
    order = rng.permutation(14 * 14)
    shuffled = image.reshape(256, -1)[:, order].reshape(image.shape)
    moved = fc.conv2d(image, weight).reshape(64, -1)[:, order].reshape(64, 14, 14)
    print("pixels shuffled, then results shuffled alike:", end=" ")
    print(np.allclose(fc.conv2d(shuffled, weight), moved, atol=1e-4))
    cost = fc.analysis.conv2d_cost(image.shape, weight.shape, method="pointwise").forward
    print(f"cost: 64 * 256 * 14 * 14 = {cost.multiplications:,} multiplications")

    colours = photograph(colour=True)[:, :216]
    mixes = {
        "grey: the mean": [1 / 3, 1 / 3, 1 / 3],
        "red less blue": [1, 0, -1],
        "negative of green": [0, -1, 0],
    }
    mixed = fc.conv2d(colours, np.array([*mixes.values()], np.float32)[..., None, None])
    made = figure(6.6, 2.1, "A 1x1 convolution mixes the channels of each pixel: 3 to 3")
    axes = made.subplots(1, 4)
    axes[0].imshow(colours[:, ::2, ::2].transpose(1, 2, 0))
    axes[0].set_title("the photograph\nred, green, blue", fontsize=9)
    for each, channel, (name, weights) in zip(axes[1:], mixed, mixes.items(), strict=True):
        each.imshow(channel[::2, ::2], cmap="gray")
        each.set_title(f"{name}\n" + ", ".join(f"{w:.2g}" for w in weights), fontsize=9)
    for each in axes:
        each.axis("off")
    print("picture:", plot.save(axes, output / "one_by_one.png"))


if __name__ == "__main__":
    run(main, __doc__)
