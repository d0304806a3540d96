"""`fastconv filter`, run in this process."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from fastconv import kernels, png, signal
from fastconv.cli import main

ndimage = pytest.importorskip("scipy.ndimage")
needs_matplotlib = pytest.mark.skipif(not find_spec("matplotlib"), reason="draws with matplotlib")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def picture(place, rng):
    """in.png: a step in noise, of any kind."""

    def make(channels=1, dtype=np.uint8, shape=(12, 15)):
        full = np.iinfo(dtype).max
        pixels = rng.integers(0, full, (*shape, channels), dtype, endpoint=True)
        pixels[:, 8:, 0] //= 4
        png.write("in.png", pixels, ((b"gAMA", b"\0\0\xb1\x8f"),))
        return pixels

    return make


def filtered(*arguments):
    assert main(["filter", "in.png", "out.png", *arguments]) == 0
    return png.read("out.png")


def as_pixels(values, dtype):
    return np.rint(values).clip(0, np.iinfo(dtype).max).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_kinds_of_image(channels, dtype, picture):
    before = picture(channels, dtype)
    after = filtered("--kernel", "gaussian:5,1.2")
    assert after.pixels.dtype == dtype and after.pixels.shape == before.shape
    assert after.chunks == ((b"gAMA", b"\0\0\xb1\x8f"),)
    colours = channels - (channels % 2 == 0)
    for channel in range(colours):
        wanted = signal.filter2d(before[..., channel], kernels.gaussian(5, 1.2))
        np.testing.assert_array_equal(after.pixels[..., channel], as_pixels(wanted, dtype))
    # alpha stays as it is
    np.testing.assert_array_equal(after.pixels[..., colours:], before[..., colours:])


@pytest.mark.parametrize("border", ["reflect", "mirror", "nearest", "wrap", "constant"])
def test_borders(border, picture):
    before = picture()[..., 0].astype(float)
    after = filtered("--kernel", "box:5", "--border", border, "--cval", "40")
    wanted = ndimage.uniform_filter(before, 5, mode=border, cval=40)
    np.testing.assert_allclose(after.pixels[..., 0], wanted, atol=0.5 + 1e-9)


@pytest.mark.parametrize("name", ["sobel", "prewitt"])
def test_gradients_give_their_length(name, picture):
    before = picture()[..., 0].astype(float)
    after = filtered("--kernel", name).pixels[..., 0]
    gain = 4 if name == "sobel" else 3
    length = np.hypot(getattr(ndimage, name)(before, 0), getattr(ndimage, name)(before, 1)) / gain
    np.testing.assert_allclose(after, length.clip(0, 255), atol=0.5 + 1e-9)


@pytest.mark.parametrize(
    "kernel",
    ["sobel", "sobel:1", "prewitt", "edge", "derivative:1", "derivative:1,accuracy=6"],
)
def test_a_step_from_black_to_white_gives_the_whole_range(kernel, place):
    step = np.zeros((9, 20), np.uint16)
    step[:, 10:] = 65535
    png.write("in.png", step)
    # more weights than a step needs can overshoot, and are clipped
    assert filtered("--kernel", kernel).pixels.max() == pytest.approx(65535, rel=0.35)


def test_values(picture):
    before = picture()[..., 0].astype(float)
    slope = ndimage.correlate(before, kernels.edge(), mode="reflect")

    def after(values):
        return filtered("--kernel", "edge", "--values", values).pixels[..., 0]

    np.testing.assert_array_equal(after("abs"), np.abs(slope))
    np.testing.assert_array_equal(after("auto"), np.abs(slope))
    np.testing.assert_array_equal(after("clip"), slope.clip(0))
    np.testing.assert_array_equal(after("signed"), np.rint((slope + 255) / 2))
    stretched = after("stretch")
    assert (stretched.min(), stretched.max()) == (0, 255)
    np.testing.assert_array_equal(stretched, np.rint((slope - slope.min()) * 255 / np.ptp(slope)))
    # smoothing and sharpening are clipped by themselves
    for kernel in ("sharpen", "emboss", "box:3"):
        wanted = ndimage.correlate(before, kernels.named(kernel))
        found = filtered("--kernel", kernel).pixels[..., 0]
        np.testing.assert_allclose(found, wanted.clip(0, 255), atol=0.5 + 1e-9)


def test_an_even_image_stretches_to_black(place):
    png.write("in.png", np.full((5, 5), 90, np.uint8))
    assert not filtered("--kernel", "box:3", "--values", "stretch").pixels.any()


def test_a_kernel_from_a_file(picture):
    before = picture(3)
    np.save("mine.npy", np.array([[2, -1]]))
    found = filtered("--kernel", "mine.npy", "--border", "wrap").pixels
    for channel in range(3):
        plane = before[..., channel].astype(float)
        wanted = (2 * np.roll(plane, 1, axis=1) - plane).clip(0, 255)
        np.testing.assert_array_equal(found[..., channel], wanted)
    # weights that cancel: the size of the result
    np.save("mine.npy", np.array([[1.0, -1.0]]))
    np.testing.assert_array_equal(
        filtered("--kernel", "mine.npy").pixels, filtered("--kernel", "edge").pixels
    )


def test_what_it_says(picture, capsys):
    picture(4, np.uint16)
    filtered("--kernel", "laplacian")
    assert capsys.readouterr().out == "out.png: 15 x 12, colour and alpha, 16 bits\n"


def test_in_place(picture):
    before = picture()
    assert main(["filter", "in.png", "in.png", "--kernel", "box:1"]) == 0
    np.testing.assert_array_equal(png.read("in.png").pixels, before)


@needs_matplotlib
def test_compare(picture, place, capsys):
    picture(4)
    filtered("--kernel", "sharpen", "--compare")
    assert "picture: out-compare.png" in capsys.readouterr().out
    sheet = png.read("out-compare.png").pixels
    assert sheet.shape[1] > 1.5 * sheet.shape[0] > 300
    assert sorted(p.name for p in place.iterdir()) == ["in.png", "out-compare.png", "out.png"]


def test_compare_without_matplotlib_writes_nothing(picture, place, capsys, monkeypatch):
    picture()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert main(["filter", "in.png", "out.png", "--kernel", "edge", "--compare"]) == 1
    assert "fastconv[train]" in capsys.readouterr().err
    assert [p.name for p in place.iterdir()] == ["in.png"]


# -- wrong calls

FILTER = ["filter", "in.png", "out.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (FILTER, "--kernel"),
        ([*FILTER, "--kernel", "sobell"], "kernel: expected one of edge, derivative"),
        ([*FILTER, "--kernel", "box"], "kernel: box(size): missing a required argument"),
        ([*FILTER, "--kernel", "gaussian"], "size: expected a size or a sigma"),
        ([*FILTER, "--kernel", "box:0"], "size: expected at least 1, got 0"),
        ([*FILTER, "--kernel", "none.npy"], "--kernel: none.npy: no such file"),
        ([*FILTER, "--kernel", "line.npy"], "line.npy: expected finite numbers of shape (R, S)"),
        ([*FILTER, "--kernel", "text.npy"], "--kernel: text.npy: not a .npy file of numbers"),
        ([*FILTER, "--kernel", "edge", "--border", "symm"], "symm"),
        ([*FILTER, "--kernel", "edge", "--cval", "nan"], "--cval: expected a finite number"),
        ([*FILTER, "--kernel", "edge", "--values", "best"], "best"),
        (["filter", "none.png", "out.png", "--kernel", "edge"], "IN: none.png: no such file"),
        (["filter", "text.npy", "out.png", "--kernel", "edge"], "text.npy: not a PNG file"),
        (["filter", "in.png", "out.jpg", "--kernel", "edge"], "OUT: expected the name of a .png"),
        (["filter", "in.png", "no/out.png", "--kernel", "edge"], "OUT: no/out.png: its folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(arguments, words, picture, place, capsys):
    picture()
    np.save("line.npy", np.ones(3))
    (place / "text.npy").write_text("no numbers")
    before = sorted(p.name for p in place.iterdir())
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2
    assert words in said and said.count("\n") == 1 and "Traceback" not in said
    assert sorted(p.name for p in place.iterdir()) == before
