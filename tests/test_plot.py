"""The pictures: whole PNG files of the right content, and clear refusals."""

import numpy as np
import pytest

from fastconv import nn

pytest.importorskip("matplotlib")

from fastconv import plot  # noqa: E402

PNG = b"\x89PNG"
HISTORY = nn.History(
    [nn.EpochRecord(n, 2.0 / n, 0.5, 2.1 / n, 0.4, 1.0, 100.0) for n in range(1, 4)]
)
CLASSES = ["cat", "dog", "a longer name"]


def size(path):
    """(width, height) from the PNG's header."""
    header = path.read_bytes()[:24]
    assert header.startswith(PNG)
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_learning_curve(tmp_path):
    assert min(size(plot.learning_curve(HISTORY, tmp_path / "a.png", "title"))) > 300


def test_learning_curve_without_test_data(tmp_path):
    history = nn.History([nn.EpochRecord(1, 2.0, None, None, None, 1.0, 100.0)])
    assert min(size(plot.learning_curve(history, tmp_path / "a.png"))) > 300


def test_confusion_matrix(tmp_path):
    counts = np.array([[5, 1, 0], [0, 0, 0], [2, 2, 2]])
    assert min(size(plot.confusion_matrix(counts, CLASSES, tmp_path / "a.png"))) > 300


def test_prediction_sheet_grows_with_its_images(tmp_path):
    images = np.zeros((13, 28, 28), np.uint8)
    labels = np.arange(13) % 3
    sizes = [
        size(
            plot.prediction_sheet(
                images[:n], labels[:n], labels[:n] // 2, CLASSES, tmp_path / f"{n}.png", columns=5
            )
        )
        for n in (5, 13)
    ]
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] < sizes[1][1]


def test_a_picture_replaces_another_in_one_go(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    plot.learning_curve(HISTORY, path)
    assert path.read_bytes().startswith(PNG)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_kernels_share_a_colour_scale(tmp_path):
    sheet = {"a": np.eye(3), "b": -2 * np.eye(2), "large": np.ones((12, 12))}
    axes = plot.kernels(sheet, title="title")
    assert [a.get_title() for a in axes] == ["a", "b", "large"]
    images = [a.images[0] for a in axes]
    assert {image.get_clim() for image in images} == {(-1, 1)}
    # shares of the largest weight of all
    assert [np.abs(image.get_array()).max() for image in images] == [0.5, 1, 0.5]
    # the numbers are there where they can be read
    assert [t.get_text() for t in axes[1].texts] == ["-2", "0", "0", "-2"]
    assert not axes[2].texts
    assert min(size(plot.save(axes, tmp_path / "a.png"))) > 250
    own = plot.kernels(sheet, relative=True)
    assert [np.abs(a.images[0].get_array()).max() for a in own] == [1, 1, 1]


def test_kernels_of_a_convolution():
    weight = np.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
    axes = plot.kernels(weight)
    assert [a.get_title() for a in axes] == ["0, 0", "0, 1", "0, 2", "1, 0", "1, 1", "1, 2"]
    np.testing.assert_allclose(axes[4].images[0].get_array(), weight[1, 1] / 23)
    assert [a.get_title() for a in plot.kernels(weight[:, 0])] == ["0", "1"]
    assert plot.kernels([np.zeros((1, 2))], names=["nothing"])[0].get_title() == "nothing"


def test_images_share_a_scale(tmp_path):
    before, after = np.array([[0.0, 2.0]]), np.array([[1.0, 4.0]])
    axes = plot.image(before, after, titles=("before", "after"), title="both")
    assert [a.get_title() for a in axes] == ["before", "after"]
    assert axes[0].images[0].get_array().tolist() == [[0, 0.5]]
    assert axes[1].images[0].get_array().tolist() == [[0.25, 1]]
    assert min(size(plot.save(axes[1], tmp_path / "a.png"))) > 100


@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        (np.array([[0, 51]], np.uint8), [[0, 0.2]]),
        (np.array([[[65535]]], np.uint16), [[1]]),
        (np.array([[True, False]]), [[1, 0]]),
        (np.array([[[255, 51]]], np.uint8), [[[1, 1, 1, 0.2]]]),
        (np.array([[[0.5, 0, 1]]]), [[[0.5, 0, 1]]]),
    ],
    ids=["uint8", "uint16", "bool", "grey and alpha", "float colours"],
)
def test_what_an_image_shows(pixels, shown):
    assert plot.image(pixels)[0].images[0].get_array().tolist() == shown


def test_wrong_kernels_and_images_are_named():
    for call, kind, message in (
        (lambda: plot.kernels([]), ValueError, "kernels: expected at least one, got none"),
        (lambda: plot.kernels([[1.0]]), ValueError, r"kernels: .* got 0 of shape \(1,\)"),
        (lambda: plot.kernels({"a": [[np.nan]]}), ValueError, "kernels: expected finite numbers"),
        (lambda: plot.kernels([np.eye(2)], ["a", "b"]), ValueError, "names: expected 1, .* got 2"),
        (lambda: plot.image(), ValueError, "images: expected at least one, got none"),
        (lambda: plot.image(np.ones(3)), ValueError, r"images: .* got \(3,\)"),
        (lambda: plot.image(np.ones((2, 2), complex)), TypeError, "images: .* dtype complex128"),
        (lambda: plot.image([[np.inf]]), ValueError, "images: expected finite numbers"),
        (lambda: plot.image(np.full((1, 1, 3), 2.0)), ValueError, "images: .* from 0 to 1"),
        (lambda: plot.image(np.eye(2), titles="ab"), ValueError, "titles: expected 1, .* got 2"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="history"):
        plot.learning_curve(nn.History(), tmp_path / "a.png")
    with pytest.raises(ValueError, match="confusion"):
        plot.confusion_matrix(np.ones((2, 3)), CLASSES, tmp_path / "a.png")
    with pytest.raises(ValueError, match="images"):
        plot.prediction_sheet(np.ones((2, 4, 4)), [0], [0], CLASSES, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
