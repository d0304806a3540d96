"""What only the Numba backend has: rows cut into pieces, vectors that end behind a row.

The small arrays of the other tests run in one piece.
"""

import dataclasses
from importlib import import_module

import numpy as np
import pytest
from helpers import REFERENCE, call, operands
from tolerance import assert_close

from fastconv.spec import array_spec, conv_spec, pool_spec, unpool_spec

pytest.importorskip("numba")
_planes = import_module("fastconv.backends.numba._planes")
_patches = import_module("fastconv.backends.numba._patches")

POOLS = {
    "2x2, short rows": pool_spec((3, 2, 6, 10), 2),
    "2x2, odd": pool_spec((2, 2, 7, 45), 2),
    "3x3 stride 2": pool_spec((2, 3, 9, 39), 3, 2, 1, 1, True),
    "3x3 stride 2, short rows": pool_spec((2, 3, 9, 7), 3, 2, 1),
    "3x3 stride 1": pool_spec((1, 3, 5, 40), 3, 1, 1),
    "stride 3": pool_spec((1, 2, 8, 20), (2, 4), 3, (1, 2)),
}


def run(op, spec, inputs, threads):
    """Outputs of a function of `_planes`."""
    x, *more = inputs
    out = np.empty(spec.input_shape if "backward" in op else spec.output_shape, x.dtype)
    if op in ("max_pool2d", "min_pool2d"):
        pool = getattr(_planes, op)
        at = np.empty(spec.output_shape, np.int64)
        pool(spec, x, out, at, threads)
        alone = np.empty_like(out)
        pool(spec, x, alone, None, threads)
        np.testing.assert_array_equal(alone, out)
        return out, at
    getattr(_planes, op)(spec, x, *more, out, threads)
    return (out,)


@pytest.mark.parametrize("name", POOLS)
def test_pieces(name, rng, monkeypatch):
    monkeypatch.setattr(_planes, "SERIAL_BYTES", 0)
    spec = POOLS[name]
    x = rng.choice([np.nan, -np.inf, 0.0, 1.0, 2.0], spec.input_shape).astype(np.float32)
    dy = rng.standard_normal(spec.output_shape).astype(np.float32)
    best, at = np.empty_like(dy), np.empty(dy.shape, np.int64)
    REFERENCE["max_pool2d"].run(spec, x, best, at)
    finite = rng.standard_normal(spec.input_shape).astype(np.float32)
    mean, spread, back = np.empty_like(dy), np.empty_like(x), np.empty_like(x)
    REFERENCE["avg_pool2d"].run(spec, finite, mean)
    REFERENCE["avg_pool2d_backward"].run(spec, dy, spread)
    unpool = unpool_spec(spec.input_shape, spec.output_shape, spec.dtype)
    REFERENCE["max_pool2d_backward"].run(unpool, dy, at, back)
    length = 4 * spec.R * spec.S
    for threads in (1, 2, 5):
        got = run("max_pool2d", spec, (x,), threads)
        np.testing.assert_array_equal(got[0], best)
        np.testing.assert_array_equal(got[1], at)
        got = run("min_pool2d", spec, (-x,), threads)
        np.testing.assert_array_equal(got[0], -best)
        np.testing.assert_array_equal(got[1], at)
        (got,) = run("avg_pool2d", spec, (finite,), threads)
        assert_close(got, mean, length=length, magnitude=np.abs(finite).max())
        (got,) = run("avg_pool2d_backward", spec, (dy,), threads)
        assert_close(got, spread, length=length, magnitude=np.abs(dy).max())
        got = np.empty_like(x)
        _planes.max_pool2d_backward(unpool, dy, at, got, threads)
        assert_close(got, back, length=length, magnitude=np.abs(dy).max())


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("beta", [1.5, -1.5])
def test_soft_pooling_in_pieces_and_blocks(name, beta, rng, monkeypatch):
    """Blocks of one vector: rows, planes and pieces end in the midst of one."""
    monkeypatch.setattr(_planes, "SERIAL_BYTES", 0)
    spec = dataclasses.replace(POOLS[name], beta=beta)
    x = rng.standard_normal(spec.input_shape).astype(np.float32)
    dy = rng.standard_normal(spec.output_shape).astype(np.float32)
    mean, back = np.empty_like(dy), np.empty_like(x)
    REFERENCE["softmax_pool2d"].run(spec, x, mean)
    REFERENCE["softmax_pool2d_backward"].run(spec, dy, x, back)
    found = set()
    for block in (_patches.BLOCK, 1):
        monkeypatch.setattr(_patches, "BLOCK", block)
        for threads in (1, 2, 5):
            got, got_back = np.empty_like(dy), np.empty_like(x)
            _patches.softmax_pool2d(spec, x, got, threads)
            _patches.softmax_pool2d_backward(spec, dy, x, got_back, threads)
            found.add(got.tobytes())
    length = 4 * (spec.R * spec.S + 4)
    assert len(found) == 1
    size = np.abs(x).max()
    assert_close(got, mean, length=length, magnitude=size)
    rise = np.abs(dy).max() * (1 + abs(beta) * 2 * size)
    assert_close(got_back, back, length=length, magnitude=rise)


@pytest.mark.parametrize("how", [(1, 1, 1), (2, 0, 1), ((3, 2), (2, 1), (1, 2))], ids=str)
def test_patches_in_pieces(how, rng, monkeypatch):
    monkeypatch.setattr(_planes, "SERIAL_BYTES", 0)
    spec = conv_spec((3, 2, 7, 37), (1, 2, 3, 2), *how)
    x = rng.integers(-4, 5, spec.input_shape).astype(np.float32)
    columns = np.empty((3, 2 * 3 * 2, spec.P * spec.Q), np.float32)
    back = np.empty_like(x)
    REFERENCE["unfold"].run(spec, x, columns)
    REFERENCE["fold"].run(spec, columns, back)
    for threads in (1, 2, 5):
        got, got_back = np.full_like(columns, np.nan), np.full_like(x, np.nan)
        _patches.unfold(spec, x, got, threads)
        np.testing.assert_array_equal(got, columns)
        _patches.fold(spec, columns, got_back, threads)
        np.testing.assert_array_equal(got_back, back)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_wrong_index_in_any_piece(threads, monkeypatch):
    monkeypatch.setattr(_planes, "SERIAL_BYTES", 0)
    spec = unpool_spec((1, 5, 4, 4), (1, 5, 2, 2), np.dtype(np.float32))
    dy, out = np.ones((1, 5, 2, 2), np.float32), np.empty((1, 5, 4, 4), np.float32)
    for plane in range(5):
        at = np.zeros(dy.shape, np.int64)
        at[0, plane, 1, 1] = 16
        with pytest.raises(ValueError, match="indices: expected values from 0 to 15, got 16"):
            _planes.max_pool2d_backward(spec, dy, at, out, threads)


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh"])
def test_activations_in_pieces_and_in_place(kind, rng, monkeypatch):
    monkeypatch.setattr(_planes, "SERIAL_BYTES", 0)
    x = rng.uniform(-20, 20, 1003).astype(np.float32)
    x[:5] = np.nan, 1e4, -1e4, -0.0, 0.0
    one = np.empty_like(x)
    _planes.activation(kind, x, one, 1)
    spec = array_spec(x.shape, x.dtype)
    (exact,) = call(REFERENCE[kind], spec, (x,))
    np.testing.assert_array_almost_equal_nulp(one[1:], exact[1:], 3)
    assert np.isnan(one[0])
    assert kind != "tanh" or np.signbit(one[3:5]).tolist() == [True, False]
    grad, back = rng.standard_normal(1003).astype(np.float32), np.empty_like(x)
    _planes.activation_backward(kind, grad, one, back, 1)
    for threads in (1, 2, 5):
        y = x.copy()
        _planes.activation(kind, y, y, threads)
        np.testing.assert_array_equal(y, one)
        _planes.activation_backward(kind, grad, y, y, threads)
        np.testing.assert_array_equal(y, back)


@pytest.mark.parametrize("change", ["reversed", "read-only", "strided"])
def test_arrays_of_any_layout(change, rng):
    spec = POOLS["2x2, odd"]
    (x,) = operands("max_pool2d", pool_spec(spec.input_shape, 2), rng)
    plain = run("avg_pool2d", spec, (x,), 1)[0]
    wide = np.empty((*spec.output_shape[:3], 2 * spec.Q), x.dtype)
    out = wide[..., ::2]
    if change == "read-only":
        x.flags.writeable = False
    elif change == "reversed":
        x = x[..., ::-1].copy()[..., ::-1]
    else:
        x = np.repeat(x, 2, -1)[..., ::2]
    _planes.avg_pool2d(spec, x, out, 1)
    np.testing.assert_array_equal(out, plain)
    assert change != "read-only" or not x.flags.writeable
