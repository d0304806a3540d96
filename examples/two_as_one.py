"""Two convolutions as one, and one as two.

With nothing nonlinear in between, two convolutions are one whose kernel has size k1 + k2 - 1.
The converse is not true: most kernels are not two smaller ones.

    python examples/two_as_one.py [--output FOLDER]
"""

import numpy as np
from _example import figure, grid, run

import fastconv as fc
from fastconv import plot
from fastconv.analysis import Convolution, compose, factor, separate


def main(output):
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((8, 3, 3, 3)), rng.standard_normal((4, 8, 5, 5))
    image = rng.standard_normal((3, 20, 20))
    one = compose(first, second)
    two = fc.conv2d(fc.conv2d(image, first), second)
    difference = np.abs(one(image) - two).max() / np.abs(two).max()
    print(f"3x3 then 5x5, channels 3 to 8 to 4: one kernel of {one.weight.shape}, 3 + 5 - 1 = 7")
    print(f"  the same result: {difference < 1e-12}; output {two.shape} both ways")

    a, b = fc.kernels.gaussian(3, 1.0), fc.kernels.laplacian()
    one = compose(Convolution(a, padding=1), Convolution(b, padding=1))
    image = rng.random((1, 12, 12))
    gap = np.abs(
        one(image) - fc.conv2d(fc.conv2d(image, a[None, None], padding=1), b[None, None], padding=1)
    )[0]
    rows, columns = one.interior(image.shape)
    print(f"with padding 1 on both, one is exact: {one.exact}")
    print(f"  inside, rows {rows.start} to {rows.stop - 1} of 12, they differ by", end=" ")
    print(f"{gap[rows, columns].max():.0e}; at the border by up to {gap.max():.2f}")

    kernels = {
        "Sobel": fc.kernels.sobel(),
        "Gauss 5x5": fc.kernels.gaussian(5),
        "box 3x3": fc.kernels.box(3),
        "Laplacian": fc.kernels.laplacian(),
    }
    print("a column and a row, one after the other:")
    for name, kernel in kernels.items():
        nearest = factor(kernel, least_squares=True)
        saved = f"yes, {sum(kernel.shape)} multiplications for {kernel.size}"
        missed = f"no, the nearest is off by {nearest.relative_error:.3f} of the kernel"
        print(f"  {name}: {saved if factor(kernel) else missed}")
    column, row = factor(kernels["Sobel"])
    print(f"  Sobel is {column.ravel()} down, {row.ravel()} across")
    print(f"  the Laplacian is a sum of {len(separate(kernels['Laplacian']))} such pairs")
    random = rng.standard_normal((5, 5))
    nearest = factor(random, size=3, least_squares=True)
    print(f"a random 5x5 as two 3x3: {factor(random, size=3)},", end=" ")
    print(f"25 numbers against 17; the nearest is off by {nearest.relative_error:.2f}")

    made = figure(9, 5.2, "Two kernels as one, and one as two")
    axes = made.subplots(2, 4)
    grid(axes[0, 0], a, "first: Gauss", ".2f")
    grid(axes[0, 1], b, "second: Laplacian")
    grid(axes[0, 2], one.kernel, "both: 3 + 3 - 1 = 5", ".2f")
    axes[0, 3].imshow(gap, cmap="Reds")
    axes[0, 3].set_title(f"padded: up to {gap.max():.2f} apart", fontsize=9)
    axes[0, 3].axis("off")
    for pair, name in zip((axes[1, :2], axes[1, 2:]), ("Sobel", "Laplacian"), strict=True):
        nearest = factor(kernels[name], least_squares=True)
        grid(pair[0], kernels[name], name)
        exact = "exactly" if nearest.error < 1e-12 else f"off by {nearest.relative_error:.0%}"
        grid(pair[1], nearest.product, f"column times row: {exact}", ".2f")
    print("picture:", plot.save(axes, output / "two_as_one.png"))


if __name__ == "__main__":
    run(main, __doc__)
