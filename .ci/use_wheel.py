"""Use an installed fastconv from a folder that has no source of it."""

import sys
from pathlib import Path

import numpy as np

import fastconv as fc

assert Path(fc.__file__).is_relative_to(sys.prefix), fc.__file__
x = np.arange(32.0, dtype=np.float32).reshape(1, 2, 4, 4)
weight = np.ones((3, 2, 3, 3), np.float32)
np.testing.assert_array_equal(
    fc.conv2d(x, weight, padding=1), fc.conv2d(x, weight, padding=1, backend="reference")
)
fc.show_config()
