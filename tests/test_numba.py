"""The Numba backend as a whole: what it serves, what it keeps on disk, threads, blocks.

Its kernels are run by the tests over the registry's rows.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import helpers
import numpy as np
import pytest
from helpers import BLOCK_OPS, DTYPES, REFERENCE, call, integers, operands
from tolerance import assert_close

import fastconv as fc
from fastconv import config, grad, registry

needs_numba = pytest.mark.skipif("numba" not in helpers.BACKENDS, reason="Numba is not installed")
beside_native = pytest.mark.skipif(
    not {"native", "numba"} <= set(helpers.BACKENDS), reason="one of the two is not here"
)
ROWS = registry.implementations(backend="numba") if "numba" in helpers.BACKENDS else ()


@beside_native
def test_it_has_every_row_of_the_native_backend():
    native = registry.implementations(backend="native")
    served = {
        (row.op, row.method)
        for row in native
        if row.op not in BLOCK_OPS and row.method != "fft"  # which has no kernels of its own
    }
    alone = {
        ("conv2d", "winograd"),
        ("conv2d_input", "winograd"),
        ("conv2d_weight", "depthwise"),
    }
    assert {(row.op, row.method) for row in ROWS} | alone == served
    assert not {(row.op, row.method) for row in ROWS} & alone


@needs_numba
def test_the_environment_s_backend(monkeypatch):
    monkeypatch.setattr(config, "_process", None)
    monkeypatch.setenv("FASTCONV_BACKEND", "numba")
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 3, 3), np.float32)
    assert fc.explain("conv2d", x.shape, w.shape).chosen.backend == "numba"
    assert (fc.conv2d(x, w) == 18).all()


def test_a_missing_numba_names_the_extra(monkeypatch):
    for name in list(sys.modules):
        if name.startswith("fastconv.backends.numba"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    registry._rows.cache_clear()
    registry._choose.cache_clear()
    try:
        message = r"backend 'numba' cannot be imported .*pip install 'fastconv\[numba\]'"
        with pytest.raises(ImportError, match=message):
            fc.max_pool2d(np.ones((1, 2, 2)), 2, backend="numba")
        assert re.search(message, str(fc.explain("relu", (3,), backend="reference")))
    finally:
        registry._rows.cache_clear()
        registry._choose.cache_clear()


# -- in processes of their own


def python(script, *, site=None, cwd=None, timeout=300, **environment):
    """Standard output of a script."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4", **environment}
    if site is not None:
        environment["PYTHONPATH"] = str(site)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=environment, cwd=cwd, timeout=timeout, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_numba
def test_numba_is_not_imported_before_a_kernel_is_asked_for():
    python("""
        import sys
        import fastconv as fc

        fc.show_config()
        print(fc.explain("conv2d", (1, 3, 8, 8), (4, 3, 3, 3), backend="numba"))
        assert "fastconv.backends.numba" in sys.modules
        assert not {"numba", "llvmlite"} & set(sys.modules)
        fc.grad.conv2d_bias([[[[1.0]]]], backend="numba")
        assert "numba" in sys.modules
    """)


# the kernel that compiles fastest, serial and parallel
SUM = """
    import numpy as np
    import fastconv as fc

    dy = np.arange(64.0 * 33 * 35).reshape(1, 64, 33, 35)
    for threads in (1, 2):
        with fc.using(backend="numba", num_threads=threads):
            np.testing.assert_array_equal(fc.grad.conv2d_bias(dy), dy.sum((0, 2, 3)))
            print(str(fc.explain("conv2d_bias", dy.shape, dtype=dy.dtype)).splitlines()[1])
"""


@pytest.fixture
def site(tmp_path):
    """A folder with a copy of the package."""
    source = Path(fc.__file__).parent
    shutil.copytree(
        source, tmp_path / "site" / "fastconv", ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    return tmp_path / "site"


@needs_numba
def test_kernels_are_kept_on_disk(site, tmp_path):
    where = {"site": site, "cwd": tmp_path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    times = [float(t) for t in re.findall(r"it compiled in (\S+) s", python(SUM, **where))]
    assert len(times) == 2 and 0 <= times[0] < times[1]
    assert list((tmp_path / "cache").rglob("*.nbc"))
    assert python(SUM, **where).count("it loaded from Numba's cache on disk") == 2
    # kernels are made of functions from several files: any of them puts them out of date
    with open(site / "fastconv" / "backends" / "numba" / "_simd.py", "a") as helpers_of_kernels:
        helpers_of_kernels.write("# changed\n")
    assert "it compiled in" in python(SUM, **where)


@needs_numba
def test_a_read_only_installation(site, tmp_path):
    """No folder for a cache: neither beside the package nor in the user's home."""
    beside = site / "fastconv" / "backends" / "numba" / "__pycache__"
    beside.touch()  # a file, where even root can make no folder
    home = tmp_path / "home"
    home.touch()
    for folder, _, _ in os.walk(site):
        os.chmod(folder, 0o555)
    try:
        nowhere = {"NUMBA_CACHE_DIR": "", "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
        before = sorted(site.rglob("*"))
        said = python(SUM, site=site, cwd=tmp_path, PYTHONDONTWRITEBYTECODE="1", **nowhere)
        assert said.count("it compiled in") == 2
        assert sorted(site.rglob("*")) == before
    finally:
        for folder, _, _ in os.walk(site):
            os.chmod(folder, 0o755)


@needs_numba
def test_a_cache_that_cannot_be_written_to_any_more(site, tmp_path):
    """As on a full disk: what was compiled runs all the same."""
    script = """
        from numba.core.caching import IndexDataCacheFile

        def full(*args):
            raise OSError(28, "No space left on device")

        IndexDataCacheFile.save = full
    """
    said = python(
        textwrap.dedent(script) + textwrap.dedent(SUM),
        site=site, cwd=tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"),
    )  # fmt: skip
    assert said.count("it compiled in") == 2
    assert not list((tmp_path / "cache").rglob("*.nbc"))


@needs_numba
@pytest.mark.parametrize("layer", ["workqueue", "default"])
def test_calls_from_several_threads_at_once(layer):
    """Numba's own threading layer, workqueue, ends the process that uses it twice at once."""
    said = python(
        """
        from concurrent.futures import ThreadPoolExecutor

        import numba
        import numpy as np
        import fastconv as fc

        dy = np.random.default_rng(0).normal(size=(4, 64, 33, 35)).astype(np.float32)

        def work(threads):
            with fc.using(backend="numba", num_threads=threads):
                return {fc.grad.conv2d_bias(dy).tobytes() for _ in range(50)}

        with ThreadPoolExecutor(4) as pool:
            assert len(set.union(*pool.map(work, [2, 3, 1, 4] * 4))) == 1
        print(numba.threading_layer())
        """,
        NUMBA_THREADING_LAYER=layer,
    )
    assert layer == "default" or said.strip() == layer


# -- blocks: as small as they can be, so that small arrays are cut in every way

SMALL = {
    "rows and columns": {"ROW": 3, "DOT_ROW": 3, "DOT_PIXELS": 5},
    "channels": {"DEPTH": 1},
    "filters": {"RESULT_BYTES": 1, "DOT_FILTERS": 1},
    "memory": {"STAGED_BYTES": 64, "RESULT_BYTES": 512},
    "a piece for each tap": {"RUN_COST": 0},
}
SHAPES = ("five images", "1x1", "1x1, padding", "1x1, groups", "kernel as large as the image",
          "stride 3, 5", "dilation, stride, groups", "depthwise, multiplier", "wide kernel",
          "one row", "four paddings")  # fmt: skip


@needs_numba
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("small", SMALL)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", ["conv2d", "conv2d_input", "conv2d_weight"])
def test_small_blocks(op, dtype, small, threads, rng, monkeypatch):
    conv = import_module("fastconv.backends.numba._conv")
    plans = (conv._forward_plan, conv._input_plans, conv._weight_plan)
    for name, value in {**SMALL[small], "SERIAL_FLOPS": 0}.items():
        assert hasattr(conv, name)
        monkeypatch.setattr(conv, name, value)
    # cut for several threads, and run one piece after the other
    monkeypatch.setattr(conv, "_threads", lambda spec, _: threads)
    jit = import_module("fastconv.backends.numba._jit")
    monkeypatch.setattr(jit, "_in_team", lambda launch, pieces, *args: launch(0, pieces, *args))
    for plan in plans:
        plan.cache_clear()
    try:
        for name in SHAPES:
            spec = helpers.specs(op, dtype)[name]
            inputs = operands(op, spec, rng, integers)
            (expected,) = call(REFERENCE[op], spec, inputs)
            for row in ROWS:
                if row.op == op and row.supports(spec) is None:
                    assert_close(call(row, spec, inputs)[0], expected, length=0)
    finally:
        for plan in plans:
            plan.cache_clear()


@beside_native
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_size(dtype, rng):
    """A window that moves over the sizes round a vector and a tile, in all three operations."""
    with fc.using(num_threads=1):
        for n in range(1, 70):
            x, w = (
                integers(rng, (1, 2, 2, n + 2), dtype),
                integers(rng, (1 + n % 9, 2, 2, 3), dtype),
            )
            y = fc.conv2d(x, w, backend="numba")
            np.testing.assert_array_equal(y, fc.conv2d(x, w, backend="native"))
            for gradient, args in (
                (grad.conv2d_input, (x.shape, w, y)),
                (grad.conv2d_weight, (x, w.shape, y)),
            ):
                mine, native = (gradient(*args, backend=b) for b in ("numba", "native"))
                np.testing.assert_array_equal(mine, native)
