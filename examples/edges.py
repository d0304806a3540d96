"""Edges: the kernel [1, -1], and what turning the image or the kernel does.

The kernel takes from each pixel its right neighbour, so it answers wherever a row changes: at a
vertical edge, at a diagonal one too, and never at a horizontal one. Its transpose does the same
for columns.

    python examples/edges.py [--output FOLDER]
"""

import numpy as np
from _example import figure, grid, run

import fastconv as fc
from fastconv import plot


def find(image, kernel):
    """Cross-correlation at every place where the whole kernel lies inside the image."""
    return fc.signal.correlate2d(image, kernel, mode="valid")


def main(output):
    edge = fc.kernels.edge()  # [[1, -1]]: the pixel minus its right neighbour
    vertical = np.ones((6, 8))
    vertical[:, 2:6] = 0
    print("a vertical edge: +1 from light to dark, -1 from dark to light; each row reads")
    print(" ", find(vertical, edge)[0])
    print("the image transposed: its edges are horizontal, and the kernel finds nothing:")
    print("  largest answer", np.abs(find(vertical.T, edge)).max())
    print("the kernel transposed as well finds them; each column reads")
    print(" ", find(vertical.T, edge.T)[:, 0])

    diagonal = np.triu(np.ones((8, 8)))  # light above the diagonal, dark below it
    found = {
        "a diagonal edge": find(diagonal, edge),
        "image transposed": find(diagonal.T, edge),
        "kernel transposed": find(diagonal, edge.T),
        "both transposed": find(diagonal.T, edge.T),
    }
    print("a diagonal edge is found by both kernels, once in each row or column that it crosses:")
    for name, result in found.items():
        print(f"  {name}: {np.count_nonzero(result)} pixels of {np.unique(result[result != 0])}")
    same = np.array_equal(found["both transposed"], found["a diagonal edge"].T)
    print("transposing both transposes the answer:", same)
    # [1, -1] and its transpose agree on where this edge is, so their difference looks across it
    across = np.array([[0.0, 1.0], [-1.0, 0.0]])
    along = np.array([[1.0, 0.0], [0.0, -1.0]])
    print("kernels for diagonals: across the edge the largest answer is", end=" ")
    print(f"{find(diagonal, across).max():g}, along it {np.abs(find(diagonal, along)).max():g}")

    sheet = [
        ("vertical edges", vertical),
        ("found by [1, -1]", find(vertical, edge)),
        ("image transposed: nothing", find(vertical.T, edge)),
        ("image and kernel transposed", find(vertical.T, edge.T)),
        ("a diagonal edge", diagonal),
        ("found by [1, -1]", find(diagonal, edge)),
        ("image transposed", find(diagonal.T, edge)),
        ("kernel transposed", find(diagonal, edge.T)),
    ]
    axes = figure(9, 4.9, "What the kernel [1, -1] finds").subplots(2, 4)
    for each, (name, array) in zip(axes.ravel(), sheet, strict=True):
        grid(each, array, name)
    print("picture:", plot.save(axes, output / "edges.png"))


if __name__ == "__main__":
    run(main, __doc__)
