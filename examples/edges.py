"""Edges: the kernel [1, -1], and what turning the image or the kernel does.

python examples/edges.py [--output FOLDER]
"""

import numpy as np
from _example import run

import fastconv as fc
from fastconv import plot


def main(output):
    vertical = np.ones((6, 8))
    vertical[:, 2:6] = 0
    diagonal = np.triu(np.ones((8, 8)))
    edge = fc.kernels.edge()  # [[1, -1]]: the pixel minus its right neighbour

    print("vertical edges: +1 from light to dark, -1 from dark to light")
    print(fc.signal.correlate2d(vertical, edge, mode="valid"))
    print("the same image transposed: its edges are horizontal, and nothing is found")
    print(np.abs(fc.signal.correlate2d(vertical.T, edge, mode="valid")).max())
    print("the transposed kernel finds them")
    print(fc.signal.correlate2d(vertical.T, edge.T, mode="valid"))

    found = {
        "a diagonal edge": fc.signal.correlate2d(diagonal, edge, mode="valid"),
        "image transposed": fc.signal.correlate2d(diagonal.T, edge, mode="valid"),
        "kernel transposed": fc.signal.correlate2d(diagonal, edge.T, mode="valid"),
    }
    print("a diagonal edge is found by both kernels, one pixel for each row or column:")
    for name, result in found.items():
        print(f"  {name}: {np.count_nonzero(result)} pixels of {np.unique(result[result != 0])}")

    axes = plot.kernels({"image": diagonal, **found}, title="A diagonal edge and [1, -1]")
    print("picture:", plot.save(axes, output / "edges.png"))


if __name__ == "__main__":
    run(main, __doc__)
