"""A driver called with a geometry that lies about its input: the sanitized build has to stop it."""

import numpy as np

from fastconv.backends.native import _conv

x = np.zeros((1, 1, 40, 40), np.float32)
weight = np.zeros((1, 1, 3, 3), np.float32)
out = np.zeros((1, 1, 62, 62), np.float32)
geometry = (1, 1, 64, 64, 1, 3, 3, 1, 1, 0, 0, 1, 1, 1, 62, 62)
_conv.conv2d(geometry, x, weight, None, out, 0, 0, 0, 1)
