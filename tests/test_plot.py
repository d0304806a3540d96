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


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="history"):
        plot.learning_curve(nn.History(), tmp_path / "a.png")
    with pytest.raises(ValueError, match="confusion"):
        plot.confusion_matrix(np.ones((2, 3)), CLASSES, tmp_path / "a.png")
    with pytest.raises(ValueError, match="images"):
        plot.prediction_sheet(np.ones((2, 4, 4)), [0], [0], CLASSES, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
