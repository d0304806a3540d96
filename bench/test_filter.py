"""Image filters: one kernel for every channel of an image."""

import pytest

from fastconv.bench.contenders import cases, filters
from fastconv.bench.timing import REPLAY

PROBLEMS = filters


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_filter(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
