"""LeNet's scores of 10,000 images."""

import pytest

from fastconv.bench.contenders import cases, inferences
from fastconv.bench.timing import REPLAY

PROBLEMS = inferences


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_inference(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
