"""Convolutions, forward and both gradients: fastconv by method, NumPy, loops and the peers."""

import pytest

from fastconv.bench.contenders import cases, convolutions
from fastconv.bench.timing import REPLAY

PROBLEMS = convolutions


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_conv(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
