"""Convolutions of shapes that nobody tuned for, forward and both gradients."""

import pytest

from fastconv.bench.contenders import cases, untuned
from fastconv.bench.timing import REPLAY

PROBLEMS = untuned


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_untuned(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
