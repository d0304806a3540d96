"""Packed weights: what is made when, who keeps it, and that nothing stale is ever used."""

import copy
import pickle
import threading

import numpy as np
import pytest
from helpers import FAST_ROWS, operands, specs

import fastconv as fc
from fastconv import nn, registry
from fastconv.nn.init import initialize
from fastconv.registry import Impl

X = np.random.default_rng(0).uniform(-1, 1, (2, 4, 6, 7)).astype(np.float32)
W = np.random.default_rng(1).uniform(-1, 1, (6, 4, 3, 3)).astype(np.float32)


class Packing:
    """A row "direct" that computes with what it packed and with nothing else."""

    def __init__(self, cost=1.0, pack_cost=0.0, packs=True):
        self.made, self.used, self.key = [], [], lambda spec: None
        real = registry.choose("conv2d", fc.spec.conv_spec((1, 1, 1, 1), (1, 1, 1, 1)),
                               "direct", "reference")  # fmt: skip

        def pack(spec, weight, layout):
            assert weight.dtype == spec.dtype and weight.flags.c_contiguous
            self.made.append(weight.copy() if packs else None)
            return self.made[-1]

        def run(spec, x, w, b, out, activation, packed=None):
            self.used.append(packed)
            real.run(spec, x, w if packed is None else packed, b, out, activation)

        self.row = Impl(
            "conv2d", "direct", "native", lambda spec: None, lambda spec: cost, run,
            pack=pack, pack_cost=lambda spec: pack_cost,
            packing_key=lambda spec, layout: self.key(spec),
        )  # fmt: skip


@pytest.fixture
def rows_of(monkeypatch):
    """Give the native backend other rows for conv2d."""
    real = registry._rows

    def put(*rows):
        mine = real("native") | {"conv2d": rows}
        monkeypatch.setattr(registry, "_rows", lambda b: mine if b == "native" else real(b))
        registry._choose.cache_clear()

    yield put
    registry._choose.cache_clear()


@pytest.fixture
def packing(rows_of):
    made = Packing()
    rows_of(made.row)
    return made


def plain(row_method="im2col", cost=1.0):
    [real] = [r for r in registry.implementations("conv2d", "reference")]
    return Impl("conv2d", row_method, "native", lambda s: None, lambda s: cost, real.run)


# --- the packed weight ---------------------------------------------------------------------------


@pytest.mark.parametrize("row", [r for r in FAST_ROWS if r.op == "conv2d"], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_packed_weight_gives_the_bits_of_a_plain_one(row, dtype, rng):
    for name, spec in specs("conv2d", dtype).items():
        if row.supports(spec) is not None or spec.N == 0:
            continue
        x, w, b = operands("conv2d", spec, rng)
        padding = (spec.padding[:2], spec.padding[2:])
        how = (b, spec.stride, padding, spec.dilation, spec.groups)
        to = dict(method=row.method, backend=row.backend, activation="relu")
        expected = fc.conv2d(x, w, *how, **to)
        packed = fc.pack_conv2d(w)
        for _ in range(2):
            np.testing.assert_array_equal(fc.conv2d(x, packed, *how, **to), expected, name)


def test_it_is_made_once_by_the_first_call(packing):
    packed = fc.pack_conv2d(W)
    assert packing.made == []
    expected = fc.conv2d(X, W, backend="reference")
    for _ in range(3):
        np.testing.assert_array_equal(fc.conv2d(X, packed), expected)
    assert len(packing.made) == 1 and all(used is packing.made[0] for used in packing.used)
    fc.conv2d(X, W)
    assert packing.used[-1] is None


def test_it_is_made_at_once_where_the_input_is_known(packing):
    packed = fc.pack_conv2d(W, (4, 6, 7), padding=1)
    assert len(packing.made) == 1
    fc.conv2d(X, packed, padding=2, stride=2)
    assert len(packing.made) == 1
    channels_last = fc.pack_conv2d(W, (2, 6, 7, 4), layout="NHWC")
    assert len(packing.made) == 2
    y = fc.conv2d(X.transpose(0, 2, 3, 1), channels_last, layout="NHWC")
    assert y.shape == (2, 4, 5, 6) and len(packing.made) == 2


def test_one_is_made_for_each_key_group_count_and_dtype(packing):
    packed = fc.pack_conv2d(W)
    packing.key = lambda spec: spec.H
    fc.conv2d(X, packed)
    fc.conv2d(X[:, :, :5], packed)
    fc.conv2d(X, packed, stride=2)
    assert len(packing.made) == 2
    wide = X.astype(np.float64)
    assert fc.conv2d(wide, packed).dtype == np.float64
    assert len(packing.made) == 3 and packing.made[2].dtype == np.float64
    assert fc.conv2d(np.concatenate([X, X], 1), packed, groups=2).shape == (2, 6, 4, 5)
    assert len(packing.made) == 4


def test_a_row_may_have_nothing_to_pack(rows_of):
    nothing = Packing(packs=False)
    rows_of(nothing.row)
    packed = fc.pack_conv2d(W)
    fc.conv2d(X, packed)
    fc.conv2d(X, packed)
    assert nothing.made == [None] and nothing.used == [None, None]
    rows_of(plain())
    np.testing.assert_array_equal(fc.conv2d(X, packed), fc.conv2d(X, W))


def test_the_choice_leaves_packing_out_where_it_is_done(rows_of):
    dear_to_pack, cheap = Packing(cost=1.0, pack_cost=9.0), plain(cost=2.0)
    rows_of(cheap, dear_to_pack.row)
    assert fc.explain("conv2d", X.shape, W.shape).chosen is cheap
    found = fc.explain("conv2d", X.shape, W.shape, packed=True)
    assert found.chosen is dear_to_pack.row
    assert "not native im2col: about 2 times the cost of direct" in str(found)
    assert "not native direct: about 5 times the cost of im2col" in str(
        fc.explain("conv2d", X.shape, W.shape)
    )
    packed = fc.pack_conv2d(W, X.shape)
    assert len(dear_to_pack.made) == 1
    fc.conv2d(X, packed)
    fc.conv2d(X, W)
    assert len(dear_to_pack.used) == 1


def test_what_cannot_be_packed_beforehand_costs_as_before(rows_of):
    row = Impl("conv2d", "direct", "native", lambda s: None, lambda s: 1.0, print,
               pack_cost=lambda s: 9.0)  # fmt: skip
    assert row.cost_of_call(None, packed=True) == row.cost_of_call(None) == 10.0


def test_the_weight_is_a_copy_and_cannot_be_written_to():
    w = W.copy()
    packed = fc.pack_conv2d(w[:, :, ::-1])
    expected = fc.conv2d(X, w[:, :, ::-1])
    w[...] = np.nan
    np.testing.assert_array_equal(fc.conv2d(X, packed), expected)
    seen = np.asarray(packed)
    assert seen.shape == packed.shape and seen.dtype == packed.dtype == np.float32
    with pytest.raises(ValueError):
        seen[...] = 0
    with pytest.raises(ValueError):
        seen.flags.writeable = True
    assert np.array(packed).flags.writeable
    assert np.asarray(packed, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="dtype: float64 needs a copy of this float32"):
        np.asarray(packed, np.float64, copy=False)


def test_other_functions_take_it_as_an_array():
    packed = fc.pack_conv2d(W)
    dy = fc.conv2d(X, packed)
    np.testing.assert_array_equal(
        fc.grad.conv2d_input(X.shape, packed, dy), fc.grad.conv2d_input(X.shape, W, dy)
    )
    np.testing.assert_array_equal(fc.conv_transpose2d(dy, packed), fc.conv_transpose2d(dy, W))


@pytest.mark.parametrize("dtype", ["float16", "int8", ">f4"])
def test_weights_of_other_dtypes(dtype):
    w = (W * 4).astype(dtype)
    expected = fc.conv2d(X, w)
    actual = fc.conv2d(X, fc.pack_conv2d(w, X.shape))
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


def test_lines_take_a_packed_weight_of_one_row():
    w = W[:, :, :1]
    expected = fc.conv1d(X[:, :, 0], w[:, :, 0], stride=2)
    np.testing.assert_array_equal(fc.conv1d(X[:, :, 0], fc.pack_conv2d(w), stride=2), expected)
    with pytest.raises(ValueError, match=r"weight: expected a packed one of shape \(K, C/groups, 1"
                       r", S\), got \(6, 4, 3, 3\)"):  # fmt: skip
        fc.conv1d(X[:, :, 0], fc.pack_conv2d(W))


def test_a_copy_or_pickle_packs_anew(packing):
    packed = fc.pack_conv2d(W, X.shape)
    for twin in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        np.testing.assert_array_equal(np.asarray(twin), W)
        assert packing.made and not twin._buffers
    assert repr(packed) == "PackedConv2d(shape=(6, 4, 3, 3), dtype=float32)"
    assert packed.nbytes == 2 * W.nbytes


def test_threads_that_begin_at_once_share_what_one_made(packing):
    packed, start = fc.pack_conv2d(W), threading.Barrier(8)
    results = [None] * 8

    def work(i):
        start.wait()
        results[i] = fc.conv2d(X, packed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(packing.made) == 1
    for y in results:
        np.testing.assert_array_equal(y, results[0])


# --- the layer -----------------------------------------------------------------------------------


@pytest.fixture
def layer(packing):
    made = nn.Conv2d(4, 6, 3, rng=0).eval()
    made(X)  # packs
    return made


def check(layer, x=X):
    """The layer computes with the weight that it has now."""
    w, b = layer.weight._data.copy(), layer.bias._data
    expected = fc.conv2d(x, fc.pack_conv2d(w), b)
    np.testing.assert_array_equal(layer(x), expected)


def test_a_layer_packs_once_in_evaluation_mode(packing):
    layer = nn.Conv2d(4, 6, 3, rng=0)
    layer(X)
    assert packing.made == []
    layer.eval()
    for _ in range(3):
        layer(X)
    assert len(packing.made) == 1 and packing.used[-1] is packing.made[0]
    nn.Sequential(layer, nn.ReLU()).eval()(X)
    assert len(packing.made) == 1
    layer.release()
    layer(X)
    assert len(packing.made) == 2


def test_lines_are_packed_too(packing):
    layer = nn.Conv1d(4, 6, 3, rng=0).eval()
    x = X[:, :, 0]
    expected = fc.conv1d(x, layer.weight.data, layer.bias.data)
    for _ in range(3):
        np.testing.assert_array_equal(layer(x), expected)
    assert len(packing.made) == 1


def write_in_place(layer):
    layer.weight.data[...] = 2


def write_one_element(layer):
    layer.weight.data[5, 3, 2, 2] += 1


def write_through_out(layer):
    np.multiply(layer.weight.data, 3, out=layer.weight.data)


def replace_the_array(layer):
    layer.weight.data = np.full_like(W, 3)


def replace_the_parameter(layer):
    layer.weight = nn.Parameter(np.full_like(W, 4))


def augmented(layer):
    layer.weight.data *= 2


def load(layer):
    layer.load_state_dict({"weight": W, "bias": np.zeros(6)})


def step(layer):
    optimizer = nn.SGD(layer.parameters(), lr=0.5)
    layer.train()
    layer.backward(np.ones_like(layer(X)))
    optimizer.step()
    layer.eval()


def another_dtype(layer):
    layer.weight.data = layer.weight.data.astype(np.float64) * 2
    layer.bias.data = layer.bias.data.astype(np.float64)


def drawn_anew(layer):
    initialize(layer, "he_normal", seed=3)


WRITES = (write_in_place, write_one_element, write_through_out, replace_the_array,
          replace_the_parameter, augmented, load, step, another_dtype, drawn_anew)  # fmt: skip


@pytest.mark.parametrize("write", WRITES)
def test_a_layer_never_computes_with_an_old_weight(layer, write):
    before = layer(X)
    write(layer)
    assert not np.array_equal(layer(X), before)
    check(layer)
    check(layer)


def takes():
    yield "the array", lambda data: data
    yield "a view", lambda data: data[3:, 1]
    yield "a view of a view", lambda data: data.reshape(-1)[::2].T
    yield "the buffer", memoryview
    yield "an iterator", lambda data: np.nditer(data, op_flags=["readwrite"])


@pytest.mark.parametrize("take", [t for _, t in takes()], ids=[n for n, _ in takes()])
@pytest.mark.parametrize("when", ["before the first call", "after it"])
def test_whoever_holds_the_array_may_write_to_it_at_any_time(take, when, packing):
    layer = nn.Conv2d(4, 6, 3, rng=0).eval()
    if when == "after it":
        layer(X)
    held = take(layer.weight.data)
    for value in (1.0, 2.0):
        before = layer(X)
        if isinstance(held, np.nditer):
            held.value[...] = value
        elif isinstance(held, memoryview):
            held[0, 0, 0, 0] = value
        else:
            held[...] = value
        assert not np.array_equal(layer(X), before)
        check(layer)
    del held
    check(layer)
    assert layer.weight._packed is not None


def test_memory_of_somebody_else_is_never_trusted(packing):
    memory = np.zeros(W.size + 1, np.float32)
    layer = nn.Conv2d(4, 6, 3, rng=0).eval()
    layer.weight = nn.Parameter(memory[1:].reshape(W.shape))
    for value in (1.0, 2.0):
        memory[:] = value
        check(layer)
        assert layer.weight._packed is None
    owner = W.copy()
    layer.weight = nn.Parameter(owner)
    check(layer)
    owner[...] = 5
    check(layer)


def test_two_layers_share_a_parameter(layer):
    other = nn.Conv2d(4, 6, 3, rng=1).eval()
    other.weight, other.bias = layer.weight, layer.bias
    np.testing.assert_array_equal(other(X), layer(X))
    other.weight.data[...] = 7
    check(layer)


def test_training_uses_the_weight_itself(packing):
    layer = nn.Conv2d(4, 6, 3, rng=0).eval()
    layer(X)
    layer.train()(X)
    assert packing.used[-1] is None
    layer.eval()(X)
    assert len(packing.made) == 2


@pytest.mark.parametrize("twin_of", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copied_layer_has_a_packed_weight_of_its_own(layer, twin_of):
    twin = twin_of(layer)
    assert twin.weight._packed is None
    np.testing.assert_array_equal(twin(X), layer(X))
    twin.weight.data[...] = 1
    check(twin)
    check(layer)
    assert not np.array_equal(twin(X), layer(X))


def test_threads_that_infer_while_another_takes_the_array(layer):
    """Each result is that of some weight that the layer had, and the last is the last one's."""
    values = [float(v) for v in range(1, 30)]
    one = fc.conv2d(X, np.ones_like(W))
    stop = threading.Event()

    def infer():
        while not stop.is_set():
            layer(X)

    layer.bias.data[...] = 0
    threads = [threading.Thread(target=infer) for _ in range(3)]
    for t in threads:
        t.start()
    try:
        for value in values:
            layer.weight.data[...] = value
            np.testing.assert_allclose(layer(X), value * one, rtol=1e-4, atol=1e-3)
    finally:
        stop.set()
        for t in threads:
            t.join()
    check(layer)
