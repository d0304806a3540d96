"""Fixtures and settings of the whole suite."""

import zlib

import hypothesis
import numpy as np
import pytest

# Derandomised: the same examples in every run.  To search further: pytest --hypothesis-profile=deep
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, max_examples=40)
hypothesis.settings.register_profile("deep", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("suite")


@pytest.fixture
def rng(request):
    """Random numbers that depend on the test's id alone: running one id again replays it."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))
