"""Maximum and average pooling, forward and backward."""

import pytest

from fastconv.bench.contenders import cases, poolings
from fastconv.bench.timing import REPLAY


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(poolings()))
def test_pool(compare, layer, op, contender):
    compare(poolings, layer, op, contender)
