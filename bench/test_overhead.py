"""One image: what stands between Python and the kernel."""

import pytest

from fastconv.bench.contenders import cases, single_images
from fastconv.bench.timing import REPLAY

PROBLEMS = single_images


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_overhead(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
