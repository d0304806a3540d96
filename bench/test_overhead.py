"""One image: what stands between Python and the kernel."""

import pytest
from contenders import cases, single_images
from timing import REPLAY


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(single_images()))
def test_overhead(compare, layer, op, contender):
    compare(single_images, layer, op, contender)
