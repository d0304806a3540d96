"""A driver called with a geometry that lies about its input: the sanitized build has to stop it.

python .ci/overrun.py FORM
"""

import sys

import numpy as np

from fastconv.backends.native import _conv, _costs, _dispatch

# as many images as the widest vector has lanes: the sanitizer does not see masked loads
x = np.zeros((16, 1, 40, 40), np.float32)
weight = np.zeros((1, 1, 3, 3), np.float32)
out = np.zeros((16, 1, 62, 62), np.float32)
geometry = (16, 1, 64, 64, 1, 3, 3, 1, 1, 0, 0, 1, 1, 1, 62, 62)
_conv.conv2d(
    geometry,
    x,
    weight,
    packed=None,
    bias=None,
    out=out,
    activation=0,
    form=_costs.FORMS[sys.argv[1]],
    isa=_dispatch.isa_names().index(_dispatch.available_isas()[0]),
    threads=1,
)
