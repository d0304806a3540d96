"""What a convolution is, costs and sees: matrices, equal kernels, counts, receptive fields.

Nothing here is in the way of a convolution: the module is imported when it is first used.

>>> import numpy as np, fastconv as fc
>>> fc.analysis.output_shape((28, 28), 5, padding=2)
(28, 28)
>>> fc.analysis.compose([[1, 1]], [[1, 1]]).kernel       # two layers as one
array([[1., 2., 1.]])
"""

from .algebra import (
    Composition,
    Convolution,
    Factors,
    Separation,
    avg_pool_as_conv,
    compose,
    factor,
    max_pool_by_relu,
    separate,
)
from .costs import ConvCost, Doubling, PassCost, PoolCost, conv2d_cost, doubling, pool2d_cost
from .fields import (
    Equivariance,
    Field,
    ReceptiveFields,
    receptive_field,
    sensitivity,
    shift_equivariance,
)
from .matrix import conv_matrix, fully_connected_equivalent, output_shape

__all__ = [
    "Composition",
    "ConvCost",
    "Convolution",
    "Doubling",
    "Equivariance",
    "Factors",
    "Field",
    "PassCost",
    "PoolCost",
    "ReceptiveFields",
    "Separation",
    "avg_pool_as_conv",
    "compose",
    "conv2d_cost",
    "conv_matrix",
    "doubling",
    "factor",
    "fully_connected_equivalent",
    "max_pool_by_relu",
    "output_shape",
    "pool2d_cost",
    "receptive_field",
    "sensitivity",
    "separate",
    "shift_equivariance",
]
