"""The registry: rows, names, choices and what it says about them."""

import sys

import numpy as np
import pytest

import fastconv as fc
from fastconv import registry
from fastconv.backends.reference import ROWS
from fastconv.registry import Impl, choose, implementations
from fastconv.spec import conv_spec, pool_spec

SPEC = conv_spec((1, 2, 5, 5), (3, 2, 3, 3))


def row(method, cost=1.0, reason=None):
    return Impl("conv2d", method, "native", lambda spec: reason, lambda spec: cost, lambda *a: None)


@pytest.fixture
def native_rows(monkeypatch):
    """Give the native backend other rows."""

    def put(*rows):
        real = registry._rows
        by_op = {"conv2d": rows}
        monkeypatch.setattr(registry, "_rows", lambda b: by_op if b == "native" else real(b))

    registry._choose.cache_clear()
    yield put
    registry._choose.cache_clear()


@pytest.fixture
def without_native(monkeypatch):
    """The native backend as it is where its extension was not built."""
    for name in list(sys.modules):
        if name.startswith("fastconv.backends.native"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastconv.backends.native._dispatch", None)
    monkeypatch.setitem(sys.modules, "fastconv.backends.native._conv", None)
    registry._rows.cache_clear()
    registry._choose.cache_clear()
    yield
    registry._rows.cache_clear()
    registry._choose.cache_clear()


def test_rows_are_listed_by_op_and_backend():
    assert implementations(backend="reference") == ROWS
    assert [str(r) for r in implementations("max_pool2d", "reference")] == ["reference direct"]
    assert set(ROWS) <= set(implementations())
    assert implementations("no such op") == ()


def test_every_row_is_found_by_its_name():
    for r in implementations("conv2d"):
        kernel = (3, 3) if r.method == "winograd" else (1, 1)
        spec = conv_spec((1, 1, 5, 5), (3, 1, *kernel))
        assert choose("conv2d", spec, r.method, r.backend) is r


def test_auto_takes_the_cheapest_that_can(native_rows):
    dear, cheap = row("direct", 2.0), row("im2col", 1.0)
    native_rows(dear, row("pointwise", 0.5, "not 1x1"), cheap)
    assert choose("conv2d", SPEC, backend="native") is cheap


def test_of_equal_costs_the_first_wins(native_rows):
    first = row("direct")
    native_rows(first, row("im2col"))
    assert choose("conv2d", SPEC, backend="native") is first


def test_nothing_is_run_in_place_of_what_was_asked_for(native_rows):
    native_rows(row("direct"), row("pointwise", reason="not 1x1"))
    with pytest.raises(ValueError, match="method: 'pointwise' cannot serve this conv2d: not 1x1; "
                       r"these can: native direct, (numba .*, )?reference direct"):  # fmt: skip
        choose("conv2d", SPEC, "pointwise", "native")
    with pytest.raises(ValueError, match="backend 'native' has no such method for conv2d"):
        choose("conv2d", SPEC, "im2col", "native")


def test_a_backend_that_cannot_serve_says_why(native_rows):
    native_rows(row("direct", reason="no"), row("im2col", reason="neither"))
    with pytest.raises(ValueError, match=r"cannot serve this conv2d \(direct: no; im2col: neith"):
        choose("conv2d", SPEC, backend="native")


@pytest.mark.parametrize(
    "how, message",
    [
        (dict(method="fast"), "method: expected one of auto, direct, .*, got 'fast'"),
        (dict(backend="best"), "backend: expected one of native, numba, reference, got 'best'"),
    ],
)
def test_unknown_names_raise_with_the_valid_ones(how, message):
    with pytest.raises(ValueError, match=message):
        choose("conv2d", SPEC, **how)
    with pytest.raises(ValueError, match=message):
        fc.conv2d(np.ones((1, 3, 3)), np.ones((1, 1, 2, 2)), **how)


def test_a_missing_backend_is_an_error_and_never_replaced(without_native):
    message = r"backend 'native' cannot be imported \(.*\); install a wheel of fastconv, or build"
    x = np.ones((1, 3, 3))
    with pytest.raises(ImportError, match=message):
        fc.max_pool2d(x, 2, backend="native")
    with fc.using(backend="native"), pytest.raises(ImportError, match=message):
        fc.max_pool2d(x, 2)
    with pytest.raises(ImportError, match=message):
        fc.using(isa="avx2")
    with pytest.raises(ImportError, match=message):
        implementations(backend="native")


def test_a_missing_backend_is_named_where_others_are_used(without_native, capsys):
    assert {r.backend for r in implementations()} <= {"numba", "reference"}
    found = fc.explain("max_pool2d", (1, 3, 3), 2, backend="reference")
    assert found.missing[0][0] == "native"
    assert "not native: backend 'native' cannot be imported" in str(found)
    fc.show_config()
    assert "native (missing: backend 'native' cannot be imported" in capsys.readouterr().out


def test_explain_gives_relative_costs(native_rows):
    native_rows(row("direct", 3.0), row("im2col", 2.0), row("pointwise", 1.0, "not 1x1"))
    lines = str(registry.explain("conv2d", SPEC, backend="native")).splitlines()
    assert [line for line in lines if "numba" not in line] == [
        "conv2d: native im2col runs",
        "  not native direct: about 1.5 times the cost of im2col",
        "  not native pointwise: not 1x1",
        "  not reference direct: backend 'native' is in use",
    ]


def test_a_block_s_method_binds_convolutions_only():
    pool = pool_spec((1, 2, 4, 4), 2)
    with fc.using(method="im2col", backend="reference"):
        assert choose("max_pool2d", pool).method == "direct"
        with pytest.raises(ValueError, match="method: 'im2col' cannot serve"):
            choose("conv2d", SPEC)
        assert choose("conv2d", SPEC, "direct").method == "direct"
