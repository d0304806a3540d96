"""Maximum and average pooling, forward and backward."""

import pytest

from fastconv.bench.contenders import cases, poolings
from fastconv.bench.timing import REPLAY

PROBLEMS = poolings


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_pool(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
