"""Make ``fastconv/data/fashion-mnist-sample.idx.xz`` from the full Fashion-MNIST.

Run from the repository: ``python scripts/make_sample.py``. What is taken and what is reduced
stands in the docstring of ``fastconv.datasets.embedded_sample``; a test checks the file against
the full set wherever that is present.

Measured per image, images ordered by class and column by column, LZMA at its best parameters:
two pixels to a byte 102 bytes with 8 grey levels, 145 with 16, some 370 with all 256; row by row
107 and 155; one pixel to a byte 108 (8 levels); median-predictor differences 110; bz2 119.
"""

import argparse
import lzma
import os
from itertools import product
from pathlib import Path

import numpy as np

from fastconv import datasets

TARGET = Path(__file__).parents[1] / "fastconv" / "data" / "fashion-mnist-sample.idx.xz"


def pack(train, test, train_count, test_count):
    """(class, image, column, pair of rows) uint8: 8 levels, two pixels to a byte."""
    classes = []
    for label in range(len(train.classes)):
        chosen = np.concatenate(
            [
                part.images[np.flatnonzero(part.labels == label)[:count]]
                for part, count in ((train, train_count), (test, test_count))
            ]
        )
        levels = (chosen.swapaxes(1, 2).astype(np.uint16) * 7 + 127) // 255
        classes.append(levels[..., 0::2] | levels[..., 1::2] << 4)
    return np.stack(classes).astype(np.uint8)


def as_idx(array):
    """The array as an IDX file."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def smallest(data):
    """The data as an .xz file, with the LZMA parameters that suit it best."""

    def compress(lc, lp, pb):
        filters = {"preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 20, "nice_len": 273}
        filters |= {"id": lzma.FILTER_LZMA2, "lc": lc, "lp": lp, "pb": pb}
        return lzma.compress(data, check=lzma.CHECK_CRC64, filters=[filters])

    choices = [(lc, lp, pb) for lc, lp, pb in product(range(5), range(3), range(3)) if lc + lp < 5]
    return min((compress(*choice) for choice in choices), key=len)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="folder with the four files (default: looked for)")
    parser.add_argument("--output", type=Path, default=TARGET)
    parser.add_argument("--train", type=int, default=160, help="training images of each class")
    parser.add_argument("--test", type=int, default=40, help="test images of each class")
    args = parser.parse_args()
    train, test = (
        datasets.load("fashion-mnist", split, root=args.root) for split in datasets.SPLITS
    )
    packed = smallest(as_idx(pack(train, test, args.train, args.test)))
    beside = args.output.with_name(args.output.name + ".tmp")
    beside.write_bytes(packed)
    os.replace(beside, args.output)
    print(f"{args.output}: {len(packed)} bytes, {len(packed) / 10 / (args.train + args.test):.1f} "
          "an image")  # fmt: skip


if __name__ == "__main__":
    main()
