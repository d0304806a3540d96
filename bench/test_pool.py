"""Maximum and average pooling, forward and backward."""

import pytest
from contenders import cases, poolings
from timing import REPLAY


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(poolings()))
def test_pool(compare, layer, op, contender):
    compare(poolings, layer, op, contender)
