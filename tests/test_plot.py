"""The pictures: whole PNG files of the right content, and clear refusals."""

import numpy as np
import pytest

from fastconv import analysis, nn

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
    axes = plot.learning_curve(HISTORY, "title")
    assert axes.shape == (2,) and axes[0].figure.get_suptitle() == "title"
    assert [a.get_ylabel() for a in axes] == ["loss", "accuracy"]
    assert [line.get_label() for line in axes[0].lines] == ["train", "test"]
    assert axes[0].lines[0].get_xydata().tolist() == [[1, 2], [2, 1], [3, 2 / 3]]
    assert min(size(plot.save(axes, tmp_path / "a.png"))) > 300


def test_last_values_stay_apart():
    close = nn.History([nn.EpochRecord(1, 2.0, 0.1, 2.0, 0.9, 1.0, 100.0)] * 2)
    loss, accuracy = plot.learning_curve(close)
    assert sorted(text.xyann[1] for text in loss.texts) == [-5, 5]
    assert [text.xyann[1] for text in accuracy.texts] == [0, 0]
    assert sorted(text.get_text() for text in accuracy.texts) == ["0.100", "0.900"]


def test_learning_curve_without_test_data():
    history = nn.History([nn.EpochRecord(1, 2.0, None, None, None, 1.0, 100.0)])
    loss, accuracy = plot.learning_curve(history)
    assert len(loss.lines) == 1 and not accuracy.lines


def test_confusion_matrix(tmp_path):
    counts = np.array([[5, 1, 0], [0, 0, 0], [2, 2, 2]])
    axes = plot.confusion_matrix(counts, CLASSES, "title")
    assert axes.get_title() == "title"
    np.testing.assert_allclose(
        axes.images[0].get_array(), [[5 / 6, 1 / 6, 0], [0] * 3, [1 / 3] * 3]
    )
    assert axes.images[0].get_clim() == (0, 1)
    assert [text.get_text() for text in axes.texts] == ["5", "1", "2", "2", "2"]
    assert [text.get_text() for text in axes.get_yticklabels()] == CLASSES
    assert min(size(plot.save(axes, tmp_path / "a.png"))) > 300


def test_prediction_sheet_grows_with_its_images(tmp_path):
    images = np.zeros((13, 28, 28), np.uint8)
    labels = np.arange(13) % 3
    sizes = []
    for n in (5, 13):
        axes = plot.prediction_sheet(images[:n], labels[:n], labels[:n] // 2, CLASSES, columns=5)
        assert len(axes) == n
        sizes.append(size(plot.save(axes, tmp_path / f"{n}.png")))
    assert [a.get_title() for a in axes[:3]] == ["cat", "cat\n(is dog)", "dog\n(is a longer name)"]
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] < sizes[1][1]


def test_prediction_sheet_has_one_grey_scale():
    axes = plot.prediction_sheet(np.arange(8).reshape(2, 2, 2), [0, 0], [0, 0], CLASSES)
    assert {a.images[0].get_clim() for a in axes} == {(0, 7)}


def test_a_picture_replaces_another_in_one_go(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    assert plot.save(plot.learning_curve(HISTORY), path) == path
    assert path.read_bytes().startswith(PNG)
    with pytest.raises(OSError):
        plot.save(plot.learning_curve(HISTORY), tmp_path / "none" / "a.png")
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


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="history"):
        plot.learning_curve(nn.History())
    with pytest.raises(ValueError, match="confusion"):
        plot.confusion_matrix(np.ones((2, 3)), CLASSES)
    with pytest.raises(ValueError, match="images"):
        plot.prediction_sheet(np.ones((2, 4, 4)), [0], [0], CLASSES)


# -- networks


def shown(axes):
    return np.asarray(axes.images[0].get_array())


@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_activations_are_those_of_the_network(activation, rng, tmp_path):
    net = nn.lenet(activation, "max", seed=0).train()
    x = rng.random((3, 1, 28, 28), np.float32)
    axes = plot.activations(net, x, names=CLASSES, title="title")
    assert all(module.training for module in net.modules())
    assert axes.shape == (2, 3, 17)
    assert [a.get_title() for a in axes[1, :, 0]] == CLASSES
    assert [a.get_title() for a in axes[1, 0, 1:]] == [str(k) for k in range(16)]
    net.eval()
    scales, peak = set(), 0
    for row, k in zip(axes, (2, 5), strict=True):
        y = net[:k](x)
        for n, line in enumerate(row):
            np.testing.assert_allclose(shown(line[0]) * np.ptp(x) + x.min(), x[n, 0], atol=1e-6)
            assert not any(line[1 + y.shape[1] :])
            for c, a in enumerate(line[1 : 1 + y.shape[1]]):
                np.testing.assert_array_equal(shown(a), y[n, c])
                scales.add((a.images[0].get_clim(), a.images[0].get_cmap().name))
        peak = max(peak, float(y.max()))
    assert scales == {((0, peak), "viridis")}
    titles = [axes[i, 0, 0].figure.get_suptitle() for i in range(2)]
    kind = {"relu": "ReLU", "sigmoid": "Sigmoid"}[activation]
    assert titles == [
        f"layer 1, {kind}: 6 channels of 28 x 28",
        f"layer 4, {kind}: 16 channels of 10 x 10",
    ]
    path = plot.save(axes, tmp_path / "a.png")
    assert min(size(path)) > 500 and path.stat().st_size < 150_000


def test_activations_of_chosen_layers():
    net = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 2, 3, rng=0), nn.Tanh()), nn.Conv2d(2, 1, 1, rng=0)
    )
    x = np.random.default_rng(0).random((3, 6, 5), np.float32)
    axes = plot.activations(net, x, layers=["0.0", -1])
    assert axes.shape == (2, 1, 3) and axes[1, 0, 2] is None
    assert axes[0, 0, 0].get_title() == "image 0"
    assert shown(axes[0, 0, 0]).shape == (6, 5, 3)
    # values on both sides of 0: white in the middle
    low, high = axes[0, 0, 1].images[0].get_clim()
    assert -low == high == max(np.abs(shown(a)).max() for a in (*axes[0, 0, 1:], axes[1, 0, 1]))
    assert plot.activations(net, x).shape == (2, 1, 3)  # by default 0.1 and 1
    assert plot.activations(nn.MaxPool2d(2), x, layers=[0]).shape == (1, 1, 4)


def test_pixels_are_scaled_as_in_predict(rng):
    images = rng.integers(0, 256, (2, 28, 28), np.uint8)
    net = nn.lenet("relu", seed=0)
    few = plot.activations(net, images, layers=[0])
    same = plot.activations(net, images[:, None] / np.float32(255), layers=[0])
    assert few.shape == (1, 2, 7)
    np.testing.assert_array_equal(shown(few[0, 1, 3]), shown(same[0, 1, 3]))


def rectangles(axes):
    """{label: (top, bottom, left, right)} of the boxes, in whole pixels."""
    found = {}
    for patch in axes.patches:
        if (label := patch.get_label()) and not label.startswith("_"):
            left, top = np.add(patch.get_xy(), 0.5)
            found[label] = (top, top + patch.get_height(), left, left + patch.get_width())
    return found


def test_receptive_field_boxes(tmp_path):
    net = nn.lenet("relu", "max", seed=0)
    axes = plot.receptive_field(net, (1, 28, 28), title="title")
    fields = analysis.receptive_field(net)
    boxes = rectangles(axes[0])
    assert list(boxes) == [
        "0 Conv2d: 5 x 5",
        "2 MaxPool2d: 6 x 6",
        "3 Conv2d: 14 x 14",
        "5 MaxPool2d: 16 x 16",
    ]
    assert boxes["5 MaxPool2d: 16 x 16"] == fields[5].box(2, 2) == (6, 22, 6, 22)
    # each is the box of an output of that layer, inside the next one
    for (label, box), after in zip(boxes.items(), [*boxes.values()][1:], strict=False):
        field = fields[int(label[0])]
        assert box == field.box(*np.subtract(box[::2], field.start) // field.jump)
        assert after[0] <= box[0] < box[1] <= after[1] and after[2] <= box[2] < box[3] <= after[3]
    assert axes[0].get_title() == "layer 5, MaxPool2d\noutput (2, 2) sees 16 x 16 pixels"
    assert "32 images of noise" in axes[1].get_title()
    assert axes[0].get_xlim() == axes[1].get_xlim() == (-1, 28)
    path = plot.save(axes, tmp_path / "a.png")
    assert min(size(path)) > 400 and path.stat().st_size < 150_000


def test_receptive_field_gradient(rng):
    net = nn.lenet_improved("relu", "avg", seed=0)
    x = rng.random((3, 1, 28, 28), np.float32)
    axes = plot.receptive_field(net, x.shape, layer="3", position=(0, 9), x=x)
    gradient = analysis.sensitivity(net, x, "3", (0, 9))
    np.testing.assert_allclose(shown(axes[1]), gradient / gradient.max())
    assert axes[1].images[0].get_clim() == (0, 1)
    side = np.sqrt((gradient > 0.0455 * gradient.max()).sum())
    assert (
        axes[1]
        .get_title()
        .endswith(f"over 3 images\neffective size {side:.1f} x {side:.1f} pixels")
    )
    np.testing.assert_allclose(shown(axes[0]) * np.ptp(x) + x.min(), x[0, 0], atol=1e-6)
    # two rows and two columns of the field are padding; the picture shows them
    assert axes[0].get_title().endswith("(0, 9) sees 14 x 14 pixels, 12 x 12 of the image")
    assert axes[0].get_ylim() == (28, -3) and axes[0].get_xlim() == (-1, 30)


def test_receptive_field_of_one_layer():
    axes = plot.receptive_field(nn.Conv2d(1, 1, 3, dilation=2, rng=0), (1, 9, 9))
    assert rectangles(axes[0]) == {"Conv2d: 5 x 5": (2, 7, 2, 7)}
    assert axes[0].get_title().startswith("Conv2d\noutput (2, 2)")
    np.testing.assert_array_equal(np.argwhere(shown(axes[1])[4])[:, 0], [2, 4, 6])


def test_wrong_networks_are_named(rng):
    net = nn.lenet(seed=0)
    x = rng.random((2, 1, 28, 28), np.float32)
    shape = (1, 28, 28)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 2, rng=0))
    for call, kind, message in (
        (lambda: plot.activations("net", x), TypeError, "net: expected a network"),
        (lambda: plot.activations(net, x[0, 0]), ValueError, r"x: expected .* \(28, 28\)"),
        (lambda: plot.activations(net, x[:0]), ValueError, "x: .* at least one image"),
        (lambda: plot.activations(net, x + np.nan), ValueError, "x: expected finite"),
        (lambda: plot.activations(net, x, layers=[12]), ValueError, "layers: .* got 12"),
        (lambda: plot.activations(net, x, layers=["x"]), ValueError, "layers: .* got 'x'"),
        (lambda: plot.activations(net, x, layers="1"), TypeError, "layers: .* got '1'"),
        (lambda: plot.activations(net, x, layers=[]), ValueError, "layers: .* got none"),
        (lambda: plot.activations(net, x, layers=[7]), ValueError, r"layers: .*'7' \(Linear\)"),
        (lambda: plot.activations(flat, x), ValueError, "layers: .* no Conv2d"),
        (lambda: plot.activations(net, x, names=["a"]), ValueError, "names: expected 2, .* got 1"),
        (lambda: plot.activations(net, x, names="ab"), ValueError, "names: expected 2, .* 'ab'"),
        (lambda: plot.receptive_field(net, (28, 28)), ValueError, "input_shape"),
        (lambda: plot.receptive_field(flat, shape), ValueError, "net: expected a layer"),
        (lambda: plot.receptive_field(net, shape, 7), ValueError, r"layer: .* got 7 \(Linear\)"),
        (lambda: plot.receptive_field(net, shape, "z"), ValueError, "layer: .* got 'z'"),
        (lambda: plot.receptive_field(net, shape, 3, (10, 0)), ValueError, "position: .*10x10"),
        (lambda: plot.receptive_field(net, (1, 20, 20), x=x), ValueError, "x: .* as in input_sh"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_no_figure_of_pyplot_is_made():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    before = pyplot.get_fignums(), dict(pyplot.rcParams)
    plot.activations(nn.lenet(seed=0), np.zeros((1, 28, 28)))
    plot.receptive_field(nn.lenet(seed=0), (1, 28, 28))
    plot.learning_curve(HISTORY)
    assert (pyplot.get_fignums(), dict(pyplot.rcParams)) == before
