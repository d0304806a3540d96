"""Channels: each input channel has its own kernel, and their results are added up.

The chapter's numbers, three ways: channel by channel, as one call, and as a matrix. A second
filter makes a second output channel; it is another sum of its own, over the same input channels.

    python examples/channels.py [--output FOLDER]
"""

import numpy as np
from _example import figure, grid, run

import fastconv as fc
from fastconv import plot

X = np.array([[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]], float)
K = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]], float)


def each_channel(image, kernels):
    """Channel by channel, with nothing added up yet."""
    return [fc.signal.correlate2d(x, k, "valid") for x, k in zip(image, kernels, strict=True)]


def main(output):
    parts = each_channel(X, K)
    total = sum(parts)
    print("each channel with its own kernel:", *(part.tolist() for part in parts))
    print("their sum:", total.tolist())

    # a weight is (output channels, input channels, rows, columns)
    one = fc.conv2d(X, K[None])
    print("conv2d:   ", one[0].tolist())
    matrix = fc.analysis.conv_matrix(K[None], X.shape)
    print("matrix:   ", (matrix @ X.ravel()).reshape(2, 2).tolist(), "of shape", matrix.shape)

    three = np.stack([K, K + 1, K + 2])
    naive = np.stack([sum(each_channel(X, kernels)) for kernels in three])
    result = fc.conv2d(X, three)
    print(f"three filters, weight {three.shape}: output {result.shape}")
    for k, channel in enumerate(result):
        print(f"  output channel {k}: {channel.tolist()}")
    matrix = fc.analysis.conv_matrix(three, X.shape)
    as_matrix = (matrix @ X.ravel()).reshape(result.shape)
    print("all three ways the same:", np.array_equal(naive, result) and (as_matrix == result).all())

    print("where the sum over channels is forgotten, the shape tells:", np.shape(parts))
    swapped = sum(each_channel(X, K[::-1]))
    print("with the kernels of the channels exchanged:", swapped.tolist())

    made = figure(6.6, 6.8, "Two input channels, three output channels")
    axes = made.subplots(3, 3)
    for row, x, k, part, c in zip(axes, X, K, parts, (0, 1), strict=False):
        grid(row[0], x, f"input channel {c}")
        grid(row[1], k, f"its kernel, K[{c}]")
        grid(row[2], part, "their correlation")
    for each, channel, name in zip(axes[2], result, ("K", "K + 1", "K + 2"), strict=True):
        grid(each, channel, f"output of {name}: the sum", largest=result.max())
    print("picture:", plot.save(axes, output / "channels.png"))


if __name__ == "__main__":
    run(main, __doc__)
