"""The same answer on every instruction set; the same bits for any number of threads."""

import helpers
import numpy as np
import pytest
from helpers import DTYPES, REFERENCE, call, operands
from tolerance import assert_close

import fastconv as fc
from fastconv import grad, ops
from fastconv.registry import implementations
from fastconv.spec import array_spec, conv_spec, pool_spec, unpool_spec

ROWS = tuple(row for row in helpers.FAST_ROWS if row.backend == "native")

if ROWS:
    from fastconv.backends import native

    ISAS = native.available_isas()
else:
    ISAS = ()


# -- instruction sets


def isa_cases():
    """Each row on each ISA, with shapes that straddle the tile of that ISA."""
    return [
        pytest.param(row, spec, isa, id=f"{row}, {row.op}, {isa}, {dtype}, {name}")
        for row in ROWS
        for isa in ISAS
        for dtype in DTYPES
        for name, spec in isa_specs(row.op, isa, dtype).items()
        if row.supports(spec) is None
    ]


def isa_specs(op, isa, dtype):
    tile = native.tiles(isa)[dtype]
    lanes, m, v = tile["lanes"], tile["m"], tile["v"]
    dt = np.dtype(dtype)
    if op in ("conv2d", "conv2d_input", "conv2d_weight"):
        wide, prime = lanes * v + 1, 2 * lanes - 1
        return {
            "below": conv_spec((2, 3, 4, lanes), (m - 1, 3, 2, 2), dtype=dt),
            "above": conv_spec((1, 3, 3, wide + 2), (m + 1, 3, 2, 3), dtype=dt),
            "1x1": conv_spec((2, m + 1, 3, lanes + 1), (m + 1, m + 1, 1, 1), dtype=dt),
            "stride": conv_spec((2, 2, 7, 3 * prime), (3, 2, 3, 3), (2, 3), 1, dtype=dt),
            "images": conv_spec((lanes + 1, 2, 5, 3), (m, 2, 3, 2), 1, "same", dtype=dt),
            "groups": conv_spec((1, 6, 5, prime), (6, 2, 2, 3), 1, 2, (1, 2), 3, dtype=dt),
        }
    if op == "conv2d_bias":
        return {"sum": array_spec((3, 4, 3, 2 * lanes + 1), dt)}
    if op in ("unfold", "fold"):
        return {
            "plain": conv_spec((2, 3, 4, 2 * lanes + 1), (1, 3, 2, 3), 1, 1, dtype=dt),
            "stride": conv_spec((1, 2, 7, 3 * lanes), (1, 2, 3, 2), (2, 3), 1, (1, 2), dtype=dt),
        }
    if "pool" in op:
        pools = {
            "2": pool_spec((1, 2, 4, 4 * lanes + 3), 2, dtype=dt),
            "3": pool_spec((1, 2, 6, 2 * lanes + 5), 3, 2, 1, 1, True, dt),
            "overlap": pool_spec((1, 1, 4, lanes + 3), (2, 3), 1, dtype=dt),
        }
        if op == "max_pool2d_backward":
            return {n: unpool_spec(p.input_shape, p.output_shape, dt) for n, p in pools.items()}
        return pools
    return {f"{n}": array_spec((n,), dt) for n in (lanes - 1, 5 * lanes + 3)}


@pytest.mark.parametrize("row, spec, isa", isa_cases())
def test_every_isa_equals_the_reference(row, spec, isa, rng):
    inputs = operands(row.op, spec, rng)
    with fc.using(isa=isa):
        actual = call(row, spec, inputs)
    desired = call(REFERENCE[row.op], spec, inputs)
    assert_close(actual[0], desired[0], **helpers.within(row, spec, inputs))
    for a, b in zip(actual[1:], desired[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("isa", ISAS)
def test_special_values_on_every_isa(isa, rng):
    values = [np.nan, np.inf, -np.inf, 0.0, 1.0]
    x = rng.choice(values, (1, 3, 6, 71)).astype(np.float32)
    with fc.using(isa=isa):
        actual = fc.max_pool2d(x, 3, 1, 1, return_indices=True)
        np.testing.assert_array_equal(np.isnan(ops.relu(x)), np.isnan(x))
        assert ops.sigmoid(x)[x == np.inf].all() and not ops.sigmoid(x)[x == -np.inf].any()
        assert np.isnan(ops.tanh(x)[np.isnan(x)]).all()
    desired = fc.max_pool2d(x, 3, 1, 1, return_indices=True, backend="reference")
    for a, b in zip(actual, desired, strict=True):
        np.testing.assert_array_equal(a, b)


# -- threads: shapes large enough that the work is shared out, and does not divide evenly


def random(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


CONV = {
    "few images": ((3, 13, 37, 41), (19, 13, 3, 3), 1, 1, 1, 1),
    "many images": ((67, 3, 17, 19), (11, 3, 3, 3), 1, 1, 1, 1),
    "one image, many filters": ((1, 64, 9, 11), (133, 64, 3, 3), 1, 0, 1, 1),
    "stride": ((3, 16, 43, 47), (29, 16, 3, 3), (2, 3), 1, 1, 1),
    "groups": ((3, 24, 29, 31), (36, 8, 3, 3), 1, 1, (1, 2), 3),
    "depthwise": ((3, 64, 37, 41), (64, 1, 5, 5), 1, 2, 1, 64),
    "depthwise, stride": ((3, 64, 57, 61), (64, 1, 3, 3), 2, 1, 1, 64),
    "one channel": ((5, 1, 97, 89), (3, 1, 3, 3), 2, 1, 1, 1),
    "1x1": ((3, 67, 23, 29), (71, 67, 1, 1), 1, 0, 1, 1),
}


def methods(op, backend, name, dtype):
    """Those of a backend that serve a shape."""
    spec = conv_spec(*CONV[name], np.dtype(dtype))
    return sorted(r.method for r in implementations(op, backend) if r.supports(spec) is None)


def threaded():
    """(backend, name, method, dtype): each method of each backend with what it serves."""
    return [
        (backend, name, method, dtype)
        for backend in helpers.FAST_BACKENDS
        for name in CONV
        for dtype in DTYPES
        for method in ("auto", *methods("conv2d", backend, name, dtype))
    ]


def same_bits(function):
    """Run with 1, 2 and 3 threads, twice each; the bytes are equal."""
    results = []
    for threads in (1, 2, 3, 3, 2, 1):
        with fc.using(num_threads=threads):
            results.append(function())
    first = results[0]
    for other in results[1:]:
        assert other.tobytes() == first.tobytes()


class TestThreads:
    @pytest.mark.parametrize("backend, name, method, dtype", threaded())
    def test_convolutions(self, backend, name, method, dtype, rng):
        shape, weight_shape, *how = CONV[name]
        x, w = random(rng, shape, dtype), random(rng, weight_shape, dtype)
        kw = {"backend": backend, "method": method}
        y = fc.conv2d(x, w, None, *how, **kw)
        same_bits(lambda: fc.conv2d(x, w, None, *how, **kw))
        if method in ("auto", *methods("conv2d_input", backend, name, dtype)):
            same_bits(lambda: grad.conv2d_input(x.shape, w, y, *how, **kw))
        if method in ("auto", *methods("conv2d_weight", backend, name, dtype)):
            same_bits(lambda: grad.conv2d_weight(x, w.shape, y, *how, **kw))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", ["depthwise", "depthwise, stride"])
    def test_depthwise_with_channels_last(self, name, dtype, rng):
        shape, weight_shape, *how = CONV[name]
        x = random(rng, [shape[i] for i in (0, 2, 3, 1)], dtype)
        w = random(rng, weight_shape, dtype)
        kw = {"backend": "native", "method": "depthwise", "layout": "NHWC"}
        y = fc.conv2d(x, w, None, *how, **kw)
        same_bits(lambda: fc.conv2d(x, w, None, *how, **kw))
        same_bits(lambda: grad.conv2d_input(x.shape, w, y, *how, **kw))
        same_bits(lambda: grad.conv2d_weight(x, w.shape, y, *how, **kw))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(7, 11, 61, 67), (1, 1, 701, 703)], ids=str)
    @pytest.mark.parametrize("backend", helpers.FAST_BACKENDS)
    def test_planes(self, backend, shape, dtype, rng):
        x = random(rng, shape, dtype)
        with fc.using(backend=backend):
            y, indices = fc.max_pool2d(x, 3, 2, 1, return_indices=True)
            same_bits(lambda: fc.max_pool2d(x, 3, 2, 1))
            same_bits(lambda: fc.max_pool2d(x, 3, 2, 1, return_indices=True)[1])
            same_bits(lambda: fc.avg_pool2d(x, 3, 2, 1))
            same_bits(lambda: grad.max_pool2d(y, indices, shape))
            same_bits(lambda: grad.avg_pool2d(y, shape, 3, 2, 1))
            same_bits(lambda: grad.conv2d_bias(x))
            same_bits(lambda: fc.min_pool2d(x, 3, 2, 1))
            same_bits(lambda: fc.softmax_pool2d(x, 3, 2, 1))
            same_bits(lambda: grad.softmax_pool2d(y, x, 3, 2, 1))
            columns = fc.unfold(x, 2, stride=2)
            same_bits(lambda: fc.unfold(x, 2, stride=2))
            same_bits(lambda: fc.fold(columns, shape[2:], 2, stride=2))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh"])
    @pytest.mark.parametrize("backend", helpers.FAST_BACKENDS)
    def test_activations(self, backend, name, dtype, rng):
        x = random(rng, (7, 11, 61, 67), dtype)
        function, gradient = getattr(ops, name), getattr(grad, name)
        with fc.using(backend=backend):
            y = function(x)
            same_bits(lambda: function(x))
            same_bits(lambda: gradient(x, y))

    @pytest.mark.parametrize("isa", ISAS)
    def test_every_isa(self, isa, rng):
        x, w = random(rng, (5, 17, 31, 37), "float32"), random(rng, (23, 17, 3, 3), "float32")
        with fc.using(backend="native", isa=isa):
            same_bits(lambda: fc.conv2d(x, w, activation="tanh"))

    @pytest.mark.parametrize("backend", helpers.FAST_BACKENDS)
    def test_calls_from_several_threads_at_once(self, backend, rng):
        from concurrent.futures import ThreadPoolExecutor

        x, w = random(rng, (5, 17, 31, 37), "float32"), random(rng, (23, 17, 3, 3), "float32")
        expected = fc.conv2d(x, w, backend=backend).tobytes()

        def run(threads):
            with fc.using(num_threads=threads, backend=backend):
                return fc.conv2d(x, w).tobytes()

        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(run, [1, 2, 3] * 8)) == {expected}
