"""LeNet's training step at batch 256: fastconv.nn and its peers from the same weights and batch."""

import pytest

from fastconv.bench.contenders import cases, training_steps
from fastconv.bench.timing import REPLAY

PROBLEMS = training_steps


@pytest.mark.benchmark(timer=REPLAY)
@pytest.mark.parametrize("layer, op, contender", cases(PROBLEMS()))
def test_training_step(compare, layer, op, contender):
    compare(PROBLEMS, layer, op, contender)
