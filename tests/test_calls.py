"""Calls that come again: what was prepared gives what the long way gives, errors included."""

import threading

import numpy as np
import pytest

import fastconv as fc
from fastconv import _calls, nn, ops, registry
from fastconv.registry import Tuned
from fastconv.spec import conv_spec


@pytest.fixture(autouse=True)
def forgotten():
    _calls.conv2d._calls = _calls.pool._calls = None


@pytest.fixture
def rng(request):
    return np.random.default_rng(list(request.node.nodeid.encode()))


def long_way(call):
    """The result of a call, or the error's type and message, with nothing remembered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_generation", object())  # none that a call was kept in
        return outcome(call)


def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error), str(error)


def check_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, strict=True)
    else:
        assert found == expected


def draw(rng, *shape, dtype=np.float32):
    return rng.uniform(-1, 1, shape).astype(dtype)


def operands(rng, dtype=np.float32, C=6, K=5, groups=1):
    return (
        draw(rng, 1, C, 9, 10, dtype=dtype),
        draw(rng, K, C // groups, 3, 3, dtype=dtype),
        draw(rng, K, dtype=dtype),
    )


OPTIONS = {
    "plain": {},
    "padding": {"padding": 1},
    "pairs": {"padding": (1, 0), "stride": (2, 1), "dilation": (1, 2)},
    "four paddings": {"padding": ((0, 1), (2, 0))},
    "same": {"padding": "same"},
    "stride": {"stride": 2, "padding": 1},
    "relu": {"activation": "relu"},
    "tanh": {"activation": "tanh", "padding": 1},
    "im2col": {"method": "im2col"},
    "winograd": {"method": "winograd", "padding": 1, "activation": "relu"},
    "lists": {"padding": [1, 1], "stride": [1, 2]},
    "NumPy integers": {"padding": np.int64(1)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_conv2d_again(rng, options, dtype, packed):
    for _ in range(3):  # other numbers each time, and from the second on nothing is checked anew
        x, w, b = operands(rng, dtype)
        if packed:
            w = fc.pack_conv2d(w)
        for bias in (b, None):
            for _ in range(2):
                found = fc.conv2d(x, w, bias, **options)
            check_same(found, long_way(lambda: fc.conv2d(x, w, bias, **options)))  # noqa: B023


@pytest.mark.parametrize("groups, C, K", [(2, 6, 4), (6, 6, 6), (1, 1, 6), (1, 4, 33)])
def test_conv2d_again_with_groups(rng, groups, C, K):
    for _ in range(3):
        x, w, b = operands(rng, C=C, K=K, groups=groups)
        found = fc.conv2d(x, w, b, 1, 1, 1, groups)
        check_same(found, long_way(lambda: fc.conv2d(x, w, b, 1, 1, 1, groups)))  # noqa: B023


@pytest.mark.parametrize("method", ["direct", "pointwise", "im2col", "winograd", "depthwise"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_conv2d_again_on_two_threads(rng, method, layout, packed):
    side, groups = (1, 1) if method == "pointwise" else (3, 24 if method == "depthwise" else 1)
    how = {"padding": side // 2, "groups": groups, "method": method}
    w, b = draw(rng, 24, 24 // groups, side, side), draw(rng, 24)
    if packed:
        w = fc.pack_conv2d(w, **how)
    for _ in range(3):
        x = draw(rng, 1, 24, 64, 66) if layout == "NCHW" else draw(rng, 1, 64, 66, 24)
        with fc.using(num_threads=1):
            expected = fc.conv2d(x, w, b, layout=layout, **how)
        with fc.using(num_threads=2):
            check_same(fc.conv2d(x, w, b, layout=layout, **how), expected)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ops, "conv_spec", None)
                check_same(fc.conv2d(x, w, b, layout=layout, **how), expected)


def test_a_call_that_comes_again_is_not_checked_anew(rng, monkeypatch):
    x, w, b = operands(rng)
    packed, tiles = fc.pack_conv2d(w), fc.pack_conv2d(w, method="winograd")
    calls = [
        lambda: fc.conv2d(x, w, b, padding=1),
        lambda: fc.conv2d(x, packed, b, padding=1),
        lambda: fc.conv2d(x, w, b, padding=1, out=np.empty((1, 5, 9, 10), np.float32)),
        lambda: fc.conv2d(x.transpose(0, 2, 3, 1).copy(), w, b, layout="NHWC"),
        lambda: fc.conv2d(x, w, b, padding=1, method="winograd"),
        lambda: fc.conv2d(x, tiles, b, padding=1, method="winograd"),
        lambda: fc.conv2d(
            x.transpose(0, 2, 3, 1).copy(), w, None, 1, 1, method="winograd", layout="NHWC"
        ),
        lambda: fc.conv2d(x, w[:, :1].repeat(6, 0)[:6], None, 1, 1, 1, 6),
        lambda: fc.conv2d(x, w[:, :1].repeat(6, 0)[:12], None, 1, 2, 1, 6),
        lambda: fc.conv2d(
            x.transpose(0, 2, 3, 1).copy(),
            w[:, :1].repeat(6, 0)[:6],
            None,
            1,
            1,
            1,
            6,
            layout="NHWC",
        ),
        lambda: fc.max_pool2d(x, 2),
        lambda: fc.min_pool2d(x, 2, padding=1),
        lambda: fc.avg_pool2d(x, (2, 3), 1),
        lambda: fc.avg_pool2d(x, 2, out=np.empty((1, 6, 4, 5), np.float32)),
    ]
    first = [call() for call in calls]
    for name in ("conv_spec", "pool_spec", "as_array", "Result"):
        monkeypatch.setattr(ops, name, None)
    for call, expected in zip(calls, first, strict=True):
        check_same(call(), expected)


VIEWS = {
    "transposed": lambda a: a.copy().swapaxes(2, 3).copy().swapaxes(2, 3),
    "reversed": lambda a: a[:, :, ::-1, ::-1],
    "every second": lambda a: np.repeat(a, 2, axis=3)[..., ::2],
    "broadcast": lambda a: np.broadcast_to(a[:, :, :1], a.shape),
    "read-only": lambda a: frozen(a),
    "unaligned": lambda a: unaligned(a),
    "subclass": lambda a: a.view(Subclass),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "float64": lambda a: a.astype(np.float64),
    "integers": lambda a: (4 * a).astype(np.int32),
    "no image": lambda a: a[:0],
    "unbatched": lambda a: a[0],
    "list": lambda a: a.tolist(),
}


class Subclass(np.ndarray):
    pass


def frozen(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    raw = np.empty(a.nbytes + 1, np.uint8)[1:]
    raw = raw.view(a.dtype).reshape(a.shape)
    raw[...] = a
    assert not raw.flags.aligned
    return raw


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("warm", ["contiguous first", "view first"])
def test_arrays_that_lie_otherwise(rng, view, warm):
    x, w, b = operands(rng)
    calls = [
        lambda: fc.conv2d(view(x), w, b),
        lambda: fc.conv2d(view(x), fc.pack_conv2d(w), b),
        lambda: fc.max_pool2d(view(x), 2),
        lambda: fc.avg_pool2d(view(x), 2),
    ]
    if np.shape(view(x)) == x.shape:
        calls += [lambda: fc.conv2d(x, view(w), b), lambda: fc.conv2d(x, w, np.repeat(b, 2)[::2])]
    plain = [lambda: fc.conv2d(x, w, b), lambda: fc.max_pool2d(x, 2), lambda: fc.avg_pool2d(x, 2)]
    order = [*plain, *calls] if warm == "contiguous first" else [*calls, *plain]
    for call in (*order, *order, *reversed(order)):
        check_same(outcome(call), long_way(call))


OUTS = {
    "contiguous": lambda x: np.full((1, 5, 9, 10), np.nan, np.float32),
    "rows apart": lambda x: np.full((1, 5, 9, 20), np.nan, np.float32)[..., :10],
    "every second": lambda x: np.full((1, 5, 9, 20), np.nan, np.float32)[..., ::2],
    "the input": lambda x: x[:, :5],
    "one for all": lambda x: np.lib.stride_tricks.as_strided(
        np.zeros(200, np.float32), (1, 5, 9, 10), (0, 0, 40, 4)
    ),
    "shape": lambda x: np.empty((1, 5, 9, 9), np.float32),
    "axes": lambda x: np.empty((5, 9, 10), np.float32),
    "dtype": lambda x: np.empty((1, 5, 9, 10), np.float64),
    "read-only": lambda x: frozen(np.empty((1, 5, 9, 10), np.float32)),
    "no array": lambda x: [1.0],
}


@pytest.mark.parametrize("out", OUTS.values(), ids=OUTS)
def test_where_the_result_goes(rng, out):
    x, w, b = operands(rng)
    fc.conv2d(x, w, b, padding=1)
    for _ in range(3):
        x_here, x_there = x.copy(), x.copy()
        here, there = out(x_here), out(x_there)
        found = outcome(lambda: fc.conv2d(x_here, w, b, padding=1, out=here))  # noqa: B023
        expected = long_way(lambda: fc.conv2d(x_there, w, b, padding=1, out=there))  # noqa: B023
        check_same(found, expected)
        if isinstance(found, np.ndarray):
            assert found is here
        fc.conv2d(x, w, b, padding=1)


def test_a_result_that_overlaps_weight_or_bias(rng):
    for at in ("weight", "bias"):
        for _ in range(2):
            x, w, b = draw(rng, 1, 1, 4, 4), draw(rng, 4, 1, 1, 1), draw(rng, 4)
            memory = np.zeros(64, np.float32)
            if at == "weight":
                memory[30:34], expected = w.ravel(), fc.conv2d(x, w.copy(), b)
                w = memory[30:34].reshape(w.shape)
            else:
                memory[30:34], expected = b, fc.conv2d(x, w, b.copy())
                b = memory[30:34]
            check_same(fc.conv2d(x, w, b, out=memory.reshape(1, 4, 4, 4)), expected)


WRONG = {
    "float stride": {"stride": 1.0},
    "True as a stride": {"stride": True},
    "floats in a pair": {"padding": (1.0, 1)},
    "True in a pair": {"dilation": (1, True)},
    "float groups": {"groups": 1.0},
    "layout": {"layout": "NCWH"},
    "layout without a hash": {"layout": ["NCHW"]},
    "activation": {"activation": "gelu"},
    "method": {"method": "no such"},
    "backend": {"backend": "no such"},
    "groups": {"groups": 4},
    "padding": {"padding": -1},
    "padding's name": {"padding": "sane"},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_errors_after_a_call_that_was_right(rng, wrong, packed):
    x, w, b = operands(rng)
    if packed:
        w = fc.pack_conv2d(w)
    for _ in range(2):
        fc.conv2d(x, w, b, 1, 1, 1, 1)
        fc.conv2d(x, w, b, 1, (1, 1), (1, 1), 1)
        found = outcome(lambda: fc.conv2d(x, w, b, **{"padding": 1} | wrong))
        assert isinstance(found, tuple), "it raised nothing"
        assert found == long_way(lambda: fc.conv2d(x, w, b, **{"padding": 1} | wrong))


def test_errors_of_arrays_after_a_call_that_was_right(rng):
    x, w, b = operands(rng)
    fc.conv2d(x, w, b)
    for arrays in (
        (x, w, b[:4]),
        (x, w, b[None]),
        (x, w[:, :5], b),
        (x[:, :5], w, b),
        (x, w[0], b),
        (x, w, b.astype(complex)),
    ):
        found = outcome(lambda: fc.conv2d(*arrays))  # noqa: B023
        assert isinstance(found, tuple), "it raised nothing"
        assert found == long_way(lambda: fc.conv2d(*arrays))  # noqa: B023


POOLS = {
    "2": (2,),
    "pairs": ((3, 2), (1, 2), (1, 0)),
    "ceil": (3, 2, 1),
    "same": (3, 2, "same"),
}


@pytest.mark.parametrize("op", ["max_pool2d", "min_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("arguments", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pools_again(rng, op, arguments, layout, dtype):
    pool = getattr(fc, op)
    more = [{}, {"ceil_mode": True}, {"ceil_mode": 1}]
    if op == "avg_pool2d":
        more += [{"count_include_pad": False}, {"divisor_override": 3}, {"divisor_override": 4}]
    for _ in range(3):
        x = draw(rng, 2, 7, 9, 5, dtype=dtype)
        x[0, 0, 0, 0] = np.nan
        for options in more:
            for _ in range(2):
                found = pool(x, *arguments, layout=layout, **options)
            call = lambda: pool(x, *arguments, layout=layout, **options)  # noqa: B023, E731
            check_same(found, long_way(call))
            out = np.full_like(found, 7)
            assert pool(x, *arguments, layout=layout, out=out, **options) is out
            check_same(out, found)
    assert len(_calls.pool._calls) >= len(more)


def test_pools_raise_as_before(rng):
    x = draw(rng, 1, 2, 8, 8)
    fc.max_pool2d(x, 2), fc.avg_pool2d(x, 2)
    for call in (
        lambda: fc.max_pool2d(x, 2.0),
        lambda: fc.max_pool2d(x, True),
        lambda: fc.max_pool2d(x, 2, padding=2),
        lambda: fc.avg_pool2d(x, 2, divisor_override=1.0),
        lambda: fc.avg_pool2d(x, 2, divisor_override=0),
        lambda: fc.avg_pool2d(x, 2, out=x),
        lambda: fc.max_pool2d(x, 2, out=frozen(np.empty((1, 2, 4, 4), np.float32))),
    ):
        found = outcome(call)
        assert isinstance(found, tuple), "it raised nothing"
        assert found == long_way(call)


def test_an_overlapping_pool(rng):
    for _ in range(3):
        x = draw(rng, 1, 2, 8, 8)
        expected = fc.max_pool2d(x.copy(), 2)
        out = x.reshape(-1)[:32].reshape(1, 2, 4, 4)
        check_same(fc.max_pool2d(x, 2, out=out), expected)


def test_settings_are_those_in_force(rng, monkeypatch):
    x, w, b = operands(rng)
    x *= 1e-20
    w *= 1e-20
    seen = []
    choose = registry.choose
    monkeypatch.setattr(registry, "choose", lambda *a, **k: seen.append(a) or choose(*a, **k))

    def new(**settings):
        """Whether a call under these settings chose for itself."""
        with fc.using(**settings):
            seen.clear()
            y = fc.conv2d(x, w)
            return bool(seen), y

    assert new()[0]
    zero = new()
    assert not zero[0] and not zero[1].any()
    chosen, kept = new(flush_denormals=False)
    assert chosen and kept.any()
    assert not new(flush_denormals=False)[0]  # another block of the same settings
    assert new(flush_denormals=False)[1].any()
    assert not new()[1].any()
    assert new(backend="reference")[0] and new(method="im2col")[0]
    for isa in fc.config.config()["isa available"]:
        assert new(isa=isa)[0] and not new(isa=isa)[0]
    before = fc.get_num_threads()
    try:
        fc.set_num_threads(before + 1)
        assert new()[0] and not new()[0]
    finally:
        fc.set_num_threads(before)
    assert not new()[0]


def test_a_tuned_choice_counts_from_the_next_call_on(rng, monkeypatch):
    x, w, b = operands(rng)
    chosen = []
    choose = registry.choose
    monkeypatch.setattr(
        registry, "choose", lambda *a, **k: chosen.append(choose(*a, **k)) or chosen[-1]
    )
    try:
        fc.conv2d(x, w, b)
        fc.conv2d(x, w, b)
        (first,) = chosen
        other = "im2col" if first.method != "im2col" else "direct"
        tuned = Tuned(other, {other: 1.0})
        registry.keep_tuned("conv2d", spec_of(x, w), first.backend, None, False, tuned)
        fc.conv2d(x, w, b)
        assert [row.method for row in chosen] == [first.method, other]
        fc.forget_tuned()
        fc.conv2d(x, w, b)
        assert chosen[2:] == [first]
    finally:
        fc.forget_tuned()


def spec_of(x, w):
    return conv_spec(x.shape, w.shape, dtype=x.dtype)


def test_one_call_from_many_threads(rng):
    x, w, b = operands(rng)
    packed = fc.pack_conv2d(w)
    images = [draw(rng, *x.shape) for _ in range(8)]
    expected = [long_way(lambda: fc.conv2d(image, w, b, padding=1)) for image in images]  # noqa: B023
    pooled = [long_way(lambda: fc.max_pool2d(image, 2)) for image in images]  # noqa: B023
    wrong = []

    def work(i):
        for _ in range(300):
            for weight in (w, packed):
                if (fc.conv2d(images[i], weight, b, padding=1) != expected[i]).any():
                    wrong.append(i)
            if (fc.max_pool2d(images[i], 2) != pooled[i]).any():
                wrong.append(i)
            if i == 0:
                _calls.conv2d._calls.clear()
                packed._calls.clear()
                fc.set_num_threads(fc.config.current().num_threads)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_no_more_calls_are_kept_than_the_bound(rng):
    w = draw(rng, 2, 2, 3, 3)
    packed = fc.pack_conv2d(w)
    most = 256
    for n in range(most + 3):
        x = draw(rng, 1, 2, 3 + n % 20, 3 + n // 20)
        y = fc.conv2d(x, w)
        check_same(fc.conv2d(x, packed), y)
        fc.max_pool2d(x, 2)
        for table in (_calls.conv2d._calls, packed._calls, _calls.pool._calls):
            assert len(table) == n % most + 1


def test_layers_in_evaluation_mode(rng):
    layers = nn.Conv2d(3, 5, 3, padding=1, rng=0), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.MinPool2d(3)
    for layer in layers:
        for _ in range(3):
            x = draw(rng, 2, 3, 8, 8)
            expected = layer.train()(x)
            check_same(layer.eval()(x), expected)


@pytest.mark.parametrize("method", ["direct", "im2col"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_packed_tiles_serve_any_size_of_the_input(rng, method, dtype):
    """With pixels in the lanes the weight is packed for all planes alike."""
    w = draw(rng, 6, 3, 5, 5, dtype=dtype)
    packed = fc.pack_conv2d(w)
    isas = fc.config.config()["isa available"]
    for isa in isas:
        with fc.using(isa=isa):
            for side in (5, 8, 17, 40):
                x = draw(rng, 1, 3, side, side, dtype=dtype)
                found = fc.conv2d(x, packed, padding=2, method=method)
                check_same(found, fc.conv2d(x, w, padding=2, method=method))
    # patches meet the weights as they lie; direct has pixels or images in the lanes
    assert (packed.nbytes > w.nbytes) == (method == "direct")
    assert len(packed._buffers) <= len(isas) * (2 if method == "direct" else 1)


def test_nothing_is_read_where_arrays_are_not_as_they_were(rng):
    """The compiled side looks for itself."""
    x, w, b = operands(rng)
    packed = fc.pack_conv2d(w)
    arguments = 1, 0, 1, 1, "NCHW", None, "auto", None
    fc.conv2d(x, w, b), fc.conv2d(x, packed, b)
    out = np.empty((1, 5, 7, 8), np.float32)
    for calls, weight in ((_calls.conv2d._calls, w), (packed._calls, None)):
        assert calls.run((x, weight, b, None, *arguments)) is not None
        assert calls.run((x, weight, b, out, *arguments)) is out
        for arrays in (
            (x[:, :5], weight, b, None),
            (x.astype(np.float64), weight, b, None),
            (x.view(np.int32), weight, b, None),
            (x[0], weight, b, None),
            (x[..., ::-1], weight, b, None),
            (x.tolist(), weight, b, None),
            (x, w[:4], b, None),
            (x, w[0], b, None),
            (x, w.astype(np.float64), b, None),
            (x, w.view(np.int32), b, None),
            (x, w.swapaxes(2, 3), b, None),
            (x, w.tolist(), b, None),
            (x, weight, b[:4], None),
            (x, weight, b[None], None),
            (x, weight, b[::-1], None),
            (x, weight, b.view(np.int32), None),
            (x, weight, b.tolist(), None),
            (x, weight, b, out[:, :4]),
            (x, weight, b, frozen(out)),
            (x, weight, b, out.view(np.int32)),
            (x, weight, b, x[:, :5, :7, :8]),
            (x, weight, out.ravel()[3:8], out),
            (unaligned(x), weight, b, None),
            (x, weight, unaligned(b), None),
            (x, weight, b, unaligned(out)),
        ):
            assert calls.run((*arrays, *arguments)) is None
        with pytest.raises(ValueError, match="made: expected at least 4"):
            calls.run((x, weight))
        with pytest.raises(TypeError):
            calls.run([x, weight, b, None, *arguments])
    fc.max_pool2d(x, 2)
    arguments = "max_pool2d", 2, None, 0, 1, False, "NCHW", None
    pool = _calls.pool._calls
    assert pool.run((x, None, None, None, *arguments)) is not None
    for arrays in (
        (x[:, :5], None),
        (x[..., ::-1], None),
        (unaligned(x), None),
        (x, np.empty((1, 6, 4, 4), np.float32)),
        (x, x[:, :, :4, :5]),
    ):
        assert pool.run((arrays[0], None, None, arrays[1], *arguments)) is None


def runs_again(monkeypatch, call):
    """Whether a call is run without a choice of an implementation."""
    chosen = []
    choose = registry.choose
    with monkeypatch.context() as patch:
        patch.setattr(registry, "choose", lambda *a, **k: chosen.append(1) or choose(*a, **k))
        call()
    return not chosen


class Pair(tuple):
    pass


class One(int):
    pass


def test_which_arguments_a_call_is_known_by(rng, monkeypatch):
    """Equal ones of the same type, whichever object they are; and no others."""
    x, w, b = operands(rng)
    fc.conv2d(x, w, b, (1, 1), ((1, 0), (0, 1)), method="auto")
    equal = tuple([tuple([1, 0]), tuple([0, 1])])
    again = lambda *a, **k: runs_again(monkeypatch, lambda: fc.conv2d(x, w, b, *a, **k))  # noqa: E731
    assert again((1, 1), equal, method="".join(["au", "to"]))
    for others in (
        (1, ((1, 0), (0, 1))),
        (Pair((1, 1)), ((1, 0), (0, 1))),
        ((1, One(1)), ((1, 0), (0, 1))),
        ((1, np.int64(1)), ((1, 0), (0, 1))),
        ([1, 1], ((1, 0), (0, 1))),
        ((1, 1), ((1, 0), [0, 1])),
    ):
        assert not again(*others)
    fc.max_pool2d(x, 3, 2, 1, 1, True)
    again = lambda *a: runs_again(monkeypatch, lambda: fc.max_pool2d(x, *a))  # noqa: E731
    assert again(3, 2, 1, 1, True)
    assert not again(3, 2, 1, 1, 1) and not again(3, 2, 1, 1, False)


def test_a_list_that_changes_between_calls(rng):
    x, w, b = operands(rng)
    padding = [0, 0]
    for side in (0, 1, 2, 0):
        padding[:] = side, side
        for _ in range(2):
            expected = fc.conv2d(x, w, b, padding=side)
            check_same(fc.conv2d(x, w, b, padding=padding), expected)
            check_same(fc.conv2d(x, fc.pack_conv2d(w), b, padding=padding), expected)


def test_arrays_that_change_between_calls(rng):
    """The same objects with other numbers, and with other memory."""
    x, w, b = operands(rng)
    packed = fc.pack_conv2d(w)
    for _ in range(3):
        for array in (x, w, b):
            array += 1
        check_same(fc.conv2d(x, w, b), long_way(lambda: fc.conv2d(x, w, b)))
        check_same(fc.conv2d(x, packed, b), long_way(lambda: fc.conv2d(x, packed, b)))
    expected = fc.conv2d(x.reshape(1, 6, 10, 9).copy(), w, b)
    x.resize((1, 6, 10, 9), refcheck=False)
    check_same(fc.conv2d(x, w, b), expected)
    check_same(fc.conv2d(x, w, b), expected)


def test_the_environment_is_read_when_it_is_first_asked_for(rng, monkeypatch):
    x, w, b = operands(rng)
    call = lambda: fc.conv2d(x, w, b)  # noqa: E731
    call()
    assert runs_again(monkeypatch, call)
    monkeypatch.setattr(fc.config, "_process", None)
    monkeypatch.setenv("FASTCONV_BACKEND", "reference")
    assert not runs_again(monkeypatch, call)
    assert fc.config.current().backend == "reference"
    monkeypatch.setattr(fc.config, "_process", None)
    monkeypatch.setenv("FASTCONV_BACKEND", "no such")
    with pytest.raises(ValueError, match="FASTCONV_BACKEND"):
        call()


def test_what_changes_during_a_call_holds_for_the_next(rng, monkeypatch):
    """A choice made before a change, as by another thread, is not kept for the time after it."""
    x, w, b = operands(rng)
    before = fc.config.current().num_threads
    choose = registry.choose

    def choose_and(change):
        return lambda *arguments, **options: (choose(*arguments, **options), change())[0]

    call = lambda: fc.conv2d(x, w, b)  # noqa: E731
    changes = fc.forget_tuned, lambda: fc.set_num_threads(fc.config.current().num_threads + 1)
    try:
        for change in changes:
            _calls.conv2d._calls = None
            with monkeypatch.context() as patch:
                patch.setattr(registry, "choose", choose_and(change))
                call()
            assert not runs_again(monkeypatch, call)
            assert runs_again(monkeypatch, call)
    finally:
        fc.set_num_threads(before)


def test_a_packed_weight_of_another_dtype(rng):
    """It is converted once, and what is computed in float32 and float64 is kept apart."""
    x, w, b = operands(rng)
    for packed in (fc.pack_conv2d(w), fc.pack_conv2d(w.astype(np.float64))):
        for _ in range(3):
            for image in (x, x.astype(np.float64)):
                for bias in (None, b, b.astype(np.float64)):
                    call = lambda: fc.conv2d(image, packed, bias)  # noqa: B023, E731
                    check_same(call(), long_way(call))


def others(x):
    """Arrays with x's numbers that lie otherwise, or are of another kind."""
    apart = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)[..., ::2]
    apart[...] = x
    unaligned = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    unaligned[...] = x
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "contiguous": x,
        "one line": x.reshape(-1),
        "no axis": x.reshape(-1)[0, ...].reshape(()),
        "five axes": x.reshape(1, 1, *x.shape),
        "empty": x[:0],
        "large": np.tile(x, (1, 1, 4000)),
        "transposed": x.transpose(2, 0, 1),
        "reversed": x[::-1],
        "apart": apart,
        "unaligned": unaligned,
        "read-only": read_only,
        "a subclass": np.ma.array(x),
        "big-endian": x.astype(x.dtype.newbyteorder(">")),
        "half": x.astype(np.float16),
        "integers": np.arange(x.size, dtype=np.int32).reshape(x.shape),
        "a list": x.tolist(),
    }


@pytest.mark.parametrize("op", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_again(rng, op, dtype):
    function = getattr(ops, op)
    x = rng.uniform(-2, 2, (3, 4, 5)).astype(dtype)
    x[0, 0] = np.nan, np.inf, -np.inf, -0.0, 1e-40
    with fc.using(backend="native"):
        for array in others(x).values():
            expected = long_way(lambda a=array: function(a))
            function(x)  # prepared after the long way, which forgets it
            check_same(outcome(lambda a=array: function(a)), expected)


@pytest.mark.parametrize("op", ["relu", "sigmoid", "tanh"])
def test_where_an_activations_result_goes(rng, op):
    function = getattr(ops, op)
    line = draw(rng, 70)
    x = line[3:63].reshape(3, 4, 5)
    with fc.using(backend="native"):
        expected = function(x)
        for out in others(np.zeros_like(x)).values():
            wanted = long_way(lambda out=out: function(x, out=out))
            wanted = wanted.copy() if isinstance(wanted, np.ndarray) else wanted
            function(x)
            found = outcome(lambda out=out: function(x, out=out))
            check_same(found, wanted)
            if isinstance(found, np.ndarray):
                assert found is out
        for first in (0, 2, 3, 4, 9):  # before, in place and behind
            memory = line.copy()
            out = memory[first : first + 60].reshape(3, 4, 5)
            assert function(memory[3:63].reshape(3, 4, 5), out=out) is out
            np.testing.assert_array_equal(out, expected)


def test_activations_follow_the_settings_in_force(rng, monkeypatch):
    x = rng.uniform(-2, 2, (3, 4)).astype(np.float32)
    ops.tanh(x)
    ran = []
    row = next(r for r in registry.implementations("tanh", "reference"))
    monkeypatch.setattr(registry, "choose", lambda *_: ran.append(1) or row)
    ops.tanh(x)
    assert not ran
    with fc.using(backend="reference"):
        ops.tanh(x)
    assert len(ran) == 1
    ops.tanh(x, backend="reference")
    assert len(ran) == 2
