"""The native drivers' blocking: shapes that straddle every block, against NumPy in float64.

The reference loops are too slow for planes of this size; `by_windows` is the same sum written with
NumPy's sliding windows. Small integers make every comparison exact.
"""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastconv as fc

native = pytest.importorskip("fastconv.backends.native")

# The block sizes of the drivers: columns of a block, taps times channels of one, pixels of patches,
# also in the gradient of the weight (256).
COLUMN_BLOCK, DEPTH_BLOCK, PATCH_PIXELS = 512, 256, 512

CASES = {
    # name: (input shape, weight shape, stride, padding ((top, bottom), (left, right)), dilation)
    "columns below": ((1, 2, 4, COLUMN_BLOCK - 1), (3, 2, 3, 3), 1, 0, 1),
    "columns at": ((1, 2, 3, COLUMN_BLOCK + 2), (3, 2, 3, 3), 1, 0, 1),
    "columns above": ((2, 1, 3, COLUMN_BLOCK + 89), (2, 1, 2, 3), 1, ((1, 0), (2, 1)), 1),
    "columns, three blocks": ((1, 1, 2, 3 * COLUMN_BLOCK - 7), (1, 1, 1, 5), 1, "same", 1),
    "columns, stride 3": ((1, 2, 3, 3 * COLUMN_BLOCK + 11), (3, 2, 2, 4), (1, 3), 1, 1),
    "columns, images": ((17, 1, 2, 61), (2, 1, 2, 3), 1, 1, 1),
    "taps far apart": ((1, 2, 5, COLUMN_BLOCK + 200), (2, 2, 2, 3), 1, 0, (3, 300)),
    "taps far apart, stride": ((1, 1, 7, 700), (2, 1, 3, 2), (2, 5), 0, (3, 307)),
    "taps far apart, images": ((19, 1, 40, 13), (2, 1, 2, 2), 1, 0, (37, 9)),
    "depth at": ((1, DEPTH_BLOCK, 5, 5), (9, DEPTH_BLOCK, 1, 1), 1, 0, 1),
    "depth above": ((1, DEPTH_BLOCK + 3, 4, 5), (7, DEPTH_BLOCK + 3, 1, 1), 1, 0, 1),
    "depth, 3x3": ((1, 71, 7, 9), (17, 71, 3, 3), 1, 1, 1),
    "depth, images": ((33, 59, 5, 6), (13, 59, 3, 3), 1, 1, 1),
    "depth, one channel": ((1, 1, 20, 41), (3, 1, 17, 19), 1, 0, 1),
    "filters": ((1, 67, 9, 11), (300, 67, 2, 2), 1, 0, 1),
    "patches above": ((1, 3, 17, 31), (5, 3, 3, 3), 2, 1, 1),
    "patches, blocks": ((1, 3, 19, PATCH_PIXELS // 16), (13, 3, 1, 1), 1, 0, 1),
    "patches, blocks of depth": (
        (2, 2 * DEPTH_BLOCK + 1, 5, 61),
        (140, 2 * DEPTH_BLOCK + 1, 1, 1),
        1,
        0,
        1,
    ),
    "patches, stride": ((2, DEPTH_BLOCK, 9, 67), (150, DEPTH_BLOCK, 1, 1), 2, 0, 1),
    "images of small planes": ((7, 37, 6, 7), (19, 37, 1, 1), 1, 0, 1),
    "one channel, images": ((33, 1, 2, 2), (19, 1, 1, 1), 1, 1, 1),
    "a row in the padding": ((2, 16, 1, 64), (24, 16, 1, 1), (2, 1), ((1, 0), (0, 0)), 1),
    "a row between the padding": ((2, 3, 3, 45), (5, 3, 3, 3), 3, 1, 1),
    "padding beyond the kernel": ((2, 2, 3, 4), (3, 2, 2, 2), 1, ((4, 3), (6, 5)), 1),
    "output of one pixel": ((3, 5, 6, 7), (11, 5, 6, 7), 1, 0, 1),
    "stride beyond the kernel": ((2, 3, 23, 29), (4, 3, 2, 1), (5, 7), 0, 1),
    "stride and dilation": ((2, 2, 19, 23), (3, 2, 3, 3), (4, 6), 2, (6, 4)),
}


def by_windows(spec, x, weight):
    """Forward pass in float64."""
    top, bottom, left, right = spec.padding
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = [d * (n - 1) + 1 for d, n in zip(spec.dilation, (spec.R, spec.S), strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(2, 3))
    windows = windows[
        :, :, :: spec.stride[0], :: spec.stride[1], :: spec.dilation[0], :: spec.dilation[1]
    ]
    return np.einsum("ncpqrs,kcrs->nkpq", windows, weight.astype(np.float64), optimize=True)


def integers(rng, shape, dtype):
    return rng.integers(-4, 5, shape).astype(dtype)


CALLS = [
    (case, method)
    for case, (_, w_shape, _, padding, _) in CASES.items()
    for method in ("direct", "im2col", "pointwise")
    if method != "pointwise" or (w_shape[2:] == (1, 1) and not padding)
]


@pytest.mark.parametrize("isa", native.available_isas())
@pytest.mark.parametrize(("case", "method"), CALLS)
def test_blocks(case, method, isa):
    x_shape, w_shape, stride, padding, dilation = CASES[case]
    rng = np.random.default_rng(len(case))
    dtype = np.float32 if len(case) % 2 else np.float64
    settings = {"stride": stride, "padding": padding, "dilation": dilation}
    x, w = integers(rng, x_shape, dtype), integers(rng, w_shape, dtype)
    spec = fc.spec.conv_spec(x_shape, w_shape, stride, padding, dilation, 1, dtype)
    dy = integers(rng, spec.output_shape, dtype)
    with fc.using(isa=isa, backend="native", num_threads=2):
        y = fc.conv2d(x, w, **settings, method=method)
        dx = fc.grad.conv2d_input(x_shape, w, dy, **settings, method=method)
        dw = fc.grad.conv2d_weight(x, w_shape, dy, **settings, method=method)
    np.testing.assert_array_equal(y, by_windows(spec, x, w))
    # The gradients are the transposes of the forward map: <dy, conv(x, w)> in two other ways, for
    # unit vectors in place of x or w. All numbers are integers, so the sums are exact.
    for _ in range(5):
        probe = integers(rng, x_shape, dtype)
        assert np.vdot(dx, probe) == np.vdot(dy, by_windows(spec, probe, w))
        probe = integers(rng, w_shape, dtype)
        assert np.vdot(dw, probe) == np.vdot(dy, by_windows(spec, x, probe))


WORKSPACE = """
    import resource, sys
    import numpy as np
    import fastconv as fc

    method, backward, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    x = np.ones((1, 64, 1024, 1024), np.float32)
    w = np.ones((4, 64, 3, 3), np.float32)
    y = np.ones((1, 4, 1024, 1024), np.float32)
    dw = np.ones_like(w)
    small = np.ones((1, 64, 8, 8), np.float32)

    def call(x, y):
        if backward == "forward":
            fc.conv2d(x, w, padding=1, method=method, out=y)
        elif backward == "weight":
            fc.grad.conv2d_weight(x, w.shape, y, padding=1, method=method, out=dw)
        else:
            fc.grad.conv2d_input(x.shape, w, y, padding=1, method=method, out=x)

    with fc.using(num_threads=threads, backend="native"):
        call(small, np.ones((1, 4, 8, 8), np.float32))   # imports, threads and their stacks
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        call(x, y)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(after - before)
"""


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("what", ["forward", "input", "weight"])
@pytest.mark.parametrize("method", ["direct", "im2col"])
def test_workspace_does_not_grow_with_the_image(method, what, threads):
    """A 64-channel image of a megapixel (256 MiB) is convolved in a few MiB of scratch.

    The whole patch matrix would take 2.3 GiB.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WORKSPACE), method, what, str(threads)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 16 * 2**20
