"""tune: what it measures, what "auto" makes of it, what is kept on disk. The clock is a counter."""

import json

import numpy as np
import pytest

import fastconv as fc
from fastconv import registry, tuning
from fastconv.registry import Impl
from fastconv.spec import conv_spec

X, W = (2, 4, 6, 7), (6, 4, 3, 3)
REAL = {row.op: row for row in registry.implementations(backend="reference")}


class Clock:
    """It runs by what the rows say they take."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(tuning, "_timer", made)
    return made


@pytest.fixture
def rows(monkeypatch, clock):
    """``rows(direct=seconds, ...)`` gives the native backend such rows, of equal costs."""
    real = registry._rows
    mine = dict(real("native"))

    def row(op, method, seconds, wrong, reason):
        def run(spec, *arrays, packed=None):
            clock.now += seconds
            REAL[op].run(spec, *arrays)
            out = arrays[-2] if op == "conv2d" else arrays[-1]
            out[0, 0, 0, 0] += wrong

        return Impl(op, method, "native", lambda s: reason, lambda s: 1.0, run)

    def put(wrong=0.0, refused=(), **seconds):
        mine.update(
            {
                op: tuple(
                    row(op, m, s, wrong if m == "im2col" else 0.0, "no" if m in refused else None)
                    for m, s in seconds.items()
                )
                for op in tuning.OPS
            }
        )
        registry._choose.cache_clear()

    monkeypatch.setattr(registry, "_rows", lambda b: mine if b == "native" else real(b))
    yield put
    fc.forget_tuned()
    registry._choose.cache_clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fastconv" / "tuned.json"


def chosen(op="conv2d", x=X, **how):
    return fc.explain(op, x, W, **how).chosen.method


@pytest.mark.parametrize("op", tuning.OPS)
def test_auto_runs_the_fastest_from_then_on(op, rows):
    rows(direct=3.0, im2col=1.0, pointwise=2.0)
    assert chosen(op) == "direct"  # of equal costs the first
    found = fc.tune(op, X, W, padding=1)
    assert (found.method, found.before, found.backend) == ("im2col", "direct", "native")
    assert found.seconds == {"im2col": 1.0, "pointwise": 2.0, "direct": 3.0}
    assert chosen(op, padding=1) == "im2col"
    for other in (dict(), dict(padding=1, stride=2), dict(padding=1, dtype="float64")):
        assert chosen(op, **other) == "direct"
    assert chosen(op, padding=1, method="pointwise") == "pointwise"
    with fc.using(method="pointwise"):
        assert chosen(op, padding=1) == "pointwise"
    fc.forget_tuned()
    assert chosen(op, padding=1) == "direct"


def test_a_call_runs_what_was_tuned(rows, clock):
    rows(direct=3.0, im2col=1.0)
    x, w = np.ones(X), np.ones(W)
    fc.tune("conv2d", X, W, dtype=np.float64)
    before = clock.now
    fc.conv2d(x, w)
    assert clock.now - before == 1.0
    with fc.using(num_threads=1):  # whatever the number of threads
        fc.conv2d(x, w)
    assert clock.now - before == 2.0


def test_the_middle_one_of_the_samples_counts(rows, clock, monkeypatch):
    rows(direct=2.0, im2col=1.0)
    [direct, im2col] = registry._rows("native")["conv2d"]
    samples = iter([1, 1, 1] + [1, 9, 1, 9, 1, 1, 1, 9])  # check, two warm-ups, (untimed, timed)

    def run(spec, *arrays):
        clock.now += next(samples, 1.0)
        REAL["conv2d"].run(spec, *arrays)

    registry._rows("native")["conv2d"] = (
        direct, Impl("conv2d", "im2col", "native", lambda s: None, lambda s: 1.0, run)
    )  # fmt: skip
    found = fc.tune("conv2d", X, W, rounds=3)
    assert found.seconds == {"direct": 2.0, "im2col": 9.0}


def test_packed_weights_have_a_choice_of_their_own(rows):
    rows(direct=3.0, im2col=1.0)
    fc.tune("conv2d", X, W, packed=True)
    assert chosen(packed=True) == "im2col"
    assert chosen() == "direct"


def test_either_layout_may_be_measured(rows):
    rows(direct=3.0, im2col=1.0)
    n, c, h, w = X
    fc.tune("conv2d", (n, h, w, c), W, layout="NHWC")
    assert chosen() == "im2col"
    fc.forget_tuned()
    fc.tune("conv2d_input", X[1:], W)
    assert chosen("conv2d_input", X[1:]) == "im2col"


def test_explain_says_that_it_was_measured(rows):
    rows(direct=3e-4, im2col=1e-4, pointwise=1.0, refused=["pointwise"])
    fc.tune("conv2d", X, W)
    lines = str(fc.explain("conv2d", X, W)).splitlines()
    assert lines[:4] == [
        "conv2d: native im2col runs",
        "  tuned: it took 100 us when measured",
        "  not native direct: took 3 times as long as im2col when measured",
        "  not native pointwise: no",
    ]
    assert "tuned" not in str(fc.explain("conv2d", X, W, method="direct"))
    assert "tuned" not in str(fc.explain("max_pool2d", X, 2))


def test_a_result_prints_its_times(rows):
    rows(direct=3e-4, im2col=1e-4)
    text = str(fc.tune("conv2d", X, W))
    assert text == "conv2d: native im2col, was direct; im2col 100 us (1.00), direct 300 us (3.00)"


def test_only_what_auto_may_use_is_measured_and_chosen(rows):
    rows(direct=3.0, im2col=1.0, pointwise=2.0, refused=["im2col"])
    assert list(fc.tune("conv2d", X, W).seconds) == ["pointwise", "direct"]
    rows(direct=3.0, im2col=1.0, pointwise=2.0, refused=["im2col", "pointwise"])
    registry._choose.cache_clear()
    assert chosen() == "direct"
    assert "tuned" not in str(fc.explain("conv2d", X, W))


@pytest.mark.parametrize("wrong", [1e-2, np.nan])
def test_methods_that_do_not_agree_are_an_error(rows, wrong):
    rows(direct=3.0, im2col=1.0, wrong=wrong)
    with pytest.raises(RuntimeError, match="tune: 'im2col' and 'direct' differ by .* this conv2d"):
        fc.tune("conv2d", X, W)
    assert chosen() == "direct"


@pytest.mark.parametrize("op", tuning.OPS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_real_methods_agree(op, layout, dtype):
    x = (2, 8, 9, 8) if layout == "NHWC" else (2, 8, 8, 9)
    groups = 8 if layout == "NHWC" else 1
    w = (8, 8 // groups, 3, 3)
    try:
        found = fc.tune(op, x, w, 2, "same", 1, groups, dtype=dtype, layout=layout, rounds=1)
        assert {"direct", "im2col"} <= set(found.seconds)
        assert fc.explain(op, (2, 8, 8, 9) if layout == "NCHW" else (2, 8, 9, 8), w, 2, "same", 1,
                          groups, dtype=dtype).chosen  # fmt: skip
    finally:
        fc.forget_tuned()


def test_a_spec_that_was_made_again_is_still_tuned(rows):
    rows(direct=3.0, im2col=1.0)
    fc.tune("conv2d", X, W)
    first = conv_spec(X, W)
    fc.spec._conv_spec.cache_clear()
    assert conv_spec(X, W) is not first
    assert chosen() == "im2col"


# --- on disk -------------------------------------------------------------------------------------


def test_a_choice_is_kept_on_disk_when_asked(rows, cache):
    rows(direct=3.0, im2col=1.0)
    fc.tune("conv2d", X, W)
    assert not cache.exists()
    fc.tune("conv2d", X, W, padding=((0, 1), (2, 3)), save=True)
    fc.tune("conv2d_input", X, W, padding=1, save=True)
    fc.tune("conv2d", X, W, save=True, packed=True)
    assert [path.name for path in cache.parent.iterdir()] == ["tuned.json"]
    fc.forget_tuned()
    assert chosen(padding=((0, 1), (2, 3))) == "direct"
    assert fc.load_tuned() == 3
    assert chosen(padding=((0, 1), (2, 3))) == "im2col"
    assert chosen("conv2d_input", padding=1) == "im2col"
    assert chosen(packed=True) == "im2col"
    assert chosen(padding=2) == chosen() == "direct"
    assert "took 3 times as long" in str(fc.explain("conv2d", X, W, packed=True))


def test_a_later_choice_replaces_the_earlier_one(rows, cache):
    rows(direct=3.0, im2col=1.0)
    fc.tune("conv2d", X, W, save=True)
    rows(direct=1.0, im2col=3.0)
    fc.tune("conv2d", X, W, save=True)
    [entry] = json.loads(cache.read_text())
    assert entry["method"] == "direct" and entry["seconds"] == {"direct": 1.0, "im2col": 3.0}


@pytest.mark.parametrize(
    "changes",
    [
        dict(cpu="another"), dict(fastconv="0.0.1"), dict(threads=999), dict(isa="rvv"),
        dict(method="guess", seconds={"guess": 1.0}), dict(backend="cuda"), dict(op="conv3d"),
        dict(method="pointwise", seconds={"pointwise": 1.0}),
    ],
    ids=str,
)  # fmt: skip
def test_what_holds_for_something_else_is_passed_over(changes, rows, cache):
    rows(direct=3.0, im2col=1.0, pointwise=5.0, refused=["pointwise"])
    fc.tune("conv2d", X, W, save=True)
    fc.forget_tuned()
    [entry] = json.loads(cache.read_text())
    cache.write_text(json.dumps([entry | changes]))
    assert fc.load_tuned() == 0
    assert chosen() == "direct"


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", "[1]", "[{}]", b"\xff\xfe", '[{"op": "conv2d", "input_shape": 3}]'],
)
def test_a_file_that_is_not_tune_s_is_named(content, rows, cache):
    rows(direct=3.0, im2col=1.0)
    cache.parent.mkdir()
    cache.write_bytes(content if isinstance(content, bytes) else content.encode())
    for call in (fc.load_tuned, lambda: fc.load_tuned(cache),
                 lambda: fc.tune("conv2d", X, W, save=True)):  # fmt: skip
        with pytest.raises(ValueError, match="tuned.json: expected .* fastconv.tune"):
            call()
    assert chosen() == "direct"


@pytest.mark.parametrize("changes", [
    dict(input_shape=[1, 2]), dict(weight_shape=[6, 3, 3, 3]), dict(dtype="float99"),
    dict(seconds={"direct": 1.0}), dict(seconds=7), dict(stride=0),
], ids=str)  # fmt: skip
def test_an_entry_that_cannot_be_is_named(changes, rows, cache):
    rows(direct=3.0, im2col=1.0)
    fc.tune("conv2d", X, W, save=True)
    [entry] = json.loads(cache.read_text())
    cache.write_text(json.dumps([entry | changes]))
    with pytest.raises(ValueError, match=r"tuned.json: expected choices .* got \{"):
        fc.load_tuned()


def test_without_a_file_there_is_nothing_to_load(cache):
    assert fc.load_tuned() == 0
    with pytest.raises(FileNotFoundError, match="path: '.*other.json' does not exist"):
        fc.load_tuned(cache.with_name("other.json"))


def test_a_write_that_fails_leaves_the_old_file(rows, cache, monkeypatch):
    rows(direct=3.0, im2col=1.0)
    fc.tune("conv2d", X, W, save=True)
    before = cache.read_text()

    def fail(*paths):
        raise OSError("disk full")

    monkeypatch.setattr(tuning.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        fc.tune("conv2d", X, W, padding=1, save=True)
    assert [path.name for path in cache.parent.iterdir()] == ["tuned.json"]
    assert cache.read_text() == before
