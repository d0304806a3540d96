"""`fastconv plot`, run in this process."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from fastconv import analysis, cli, datasets, nn, png
from fastconv.cli import main

needs_matplotlib = pytest.mark.skipif(not find_spec("matplotlib"), reason="draws with matplotlib")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run, its pictures left out: they take most of the time."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    quick = ["--dataset", "sample", "--limit", "60", "--epochs", "1", "--batch-size", "20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib.figure", None)
        assert main(["train", *quick, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def drawn(place, monkeypatch, capsys):
    """The Axes that a command draws, and the file it says it wrote."""

    def draw(*arguments):
        from fastconv import plot

        saved = []
        monkeypatch.setattr(
            plot, "save", lambda axes, path, save=plot.save: saved.append(axes) or save(axes, path)
        )
        assert main(["plot", *map(str, arguments)]) == 0
        monkeypatch.undo()
        monkeypatch.chdir(place)
        said = capsys.readouterr()
        assert said.err == "" and said.out.startswith("picture: ")
        path = place / said.out.removeprefix("picture: ").strip()
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < 200_000
        return saved[0], path.name

    return draw


@needs_matplotlib
def test_kernels(drawn):
    axes, name = drawn("kernels")
    assert name == "kernels.png" and len(axes) > 10
    np.save("mine.npy", np.eye(4))
    some = ["sobel", "mine.npy", "gaussian:5"]
    axes, name = drawn("kernels", *some, "--title", "some", "--output", "some.png")
    assert name == "some.png" and [a.get_title() for a in axes] == ["sobel", "mine", "gaussian:5"]
    assert axes[0].figure.get_suptitle() == "some"


@needs_matplotlib
def test_kernels_of_a_network(drawn, run):
    weight = nn.load_checkpoint(run / "weights.npz").weights["0.weight"]
    for place_of_weights in (run, run / "weights.npz"):
        axes, _ = drawn("kernels", place_of_weights)
        assert [a.get_title() for a in axes] == [f"filter {k}" for k in range(6)]
        np.testing.assert_allclose(
            axes[3].images[0].get_array(), weight[3, 0] / np.abs(weight).max(), rtol=1e-6
        )


@needs_matplotlib
def test_image(drawn):
    png.write("in.png", np.arange(180, dtype=np.uint16).reshape(10, 18))
    axes, name = drawn("image", "in.png", "in.png")
    assert name == "image.png" and [a.get_title() for a in axes] == ["in.png", "in.png"]


@needs_matplotlib
def test_activations(drawn, run):
    axes, name = drawn("activations", run)
    test = datasets.load("sample", "test")
    assert name == "activations.png" and axes.shape == (2, 3, 17)
    assert [a.get_title() for a in axes[0, :, 0]] == [test.classes[k] for k in test.labels[:3]]
    assert axes[0, 0, 0].figure.figure.get_suptitle() == "lenet on sample"
    net, _ = cli._trained(str(run))
    for i, k in enumerate((2, 5)):
        np.testing.assert_array_equal(
            axes[i, 1, 4].images[0].get_array(), net[:k](test.inputs()[:3])[1, 3]
        )


@needs_matplotlib
def test_activations_of_classes_and_layers(drawn, run):
    axes, _ = drawn(
        *("activations", run / "weights.npz", "--classes", "pullover", "Coat", "--count", "2"),
        *("--layers", "2", "0", "--title", "mine", "--output", "two.png"),
    )
    assert axes.shape == (2, 4, 7)
    assert [a.get_title() for a in axes[0, :, 0]] == ["Pullover", "Pullover", "Coat", "Coat"]
    assert axes[0, 0, 0].figure.get_suptitle() == "layer 2, MaxPool2d: 6 channels of 14 x 14"
    assert axes[0, 0, 0].figure.figure.figure.get_suptitle() == "mine"


@needs_matplotlib
def test_receptive_field(drawn, run):
    axes, name = drawn("receptive-field")
    assert name == "receptive-field.png"
    assert axes[0].get_title() == "layer 5, MaxPool2d\noutput (2, 2) sees 16 x 16 pixels"
    axes, _ = drawn(
        *("receptive-field", "--model", "lenet_improved", "--activation", "tanh"),
        *("--layer", "3", "--position", "4", "6"),
    )
    net = nn.lenet_improved("tanh", "avg", seed=0)
    box = axes[0].patches[-1]
    top, bottom, left, right = analysis.receptive_field(net)[3].box(4, 6)
    assert box.get_xy() == (left - 0.5, top - 0.5)
    assert (box.get_width(), box.get_height()) == (right - left, bottom - top)
    axes, _ = drawn("receptive-field", run, "--limit", "20")
    assert axes[0].figure.get_suptitle() == "lenet on sample"
    assert "over 20 images\n" in axes[1].get_title()
    x = datasets.load("sample", "test").take(20).inputs()
    gradient = analysis.sensitivity(cli._trained(str(run))[0], x, 5)
    np.testing.assert_allclose(axes[1].images[0].get_array(), gradient / gradient.max())


@needs_matplotlib
def test_curve(drawn, run, tmp_path):
    for place_of_run in (run, run / "weights.npz"):
        axes, name = drawn("curve", place_of_run)
        assert name == "curve.png"
        assert axes[0].figure.get_suptitle().startswith("lenet on sample: test accuracy 0.")
        assert len(axes[0].lines[0].get_xdata()) == 1
    # a run that has not finished has a checkpoint alone
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "checkpoint.npz").write_bytes((run / "checkpoint.npz").read_bytes())
    axes, _ = drawn("curve", unfinished)
    assert axes[0].figure.get_suptitle() == "lenet on sample, not finished"


@needs_matplotlib
def test_confusion(drawn, run):
    axes, name = drawn("confusion", run, "--limit", "50")
    test = datasets.load("sample", "test").take(50)
    result = nn.evaluate(cli._trained(str(run))[0], test)
    assert name == "confusion.png"
    wanted = f"lenet on 50 images of sample: accuracy {result.accuracy:.3f}"
    assert axes.get_title() == wanted
    counts = [int(text.get_text()) for text in axes.texts]
    assert counts == result.confusion[result.confusion > 0].tolist()


def test_help_says_what_each_is(capsys):
    for kind in ("kernels", "activations", "receptive-field", "curve", "confusion", "image"):
        with pytest.raises(SystemExit) as stop:
            main(["plot", kind, "--help"])
        said = capsys.readouterr().out
        assert stop.value.code == 0 and f"{kind}.png" in said and "--title" in said


def test_without_matplotlib(place, run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    for arguments in (["kernels"], ["curve", str(run)], ["activations", str(run)]):
        assert main(["plot", *arguments]) == 1
        assert "pip install 'fastconv[train]'" in capsys.readouterr().err
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "KIND"),
        (["pie"], "pie"),
        (["image"], "image"),
        (["image", "none.png"], "IMAGE: none.png: no such file"),
        (["kernels", "none.npy"], "KERNEL: none.npy: no such file"),
        (["kernels", "none.npz"], "none.npz"),
        (["kernels", "--output", "k.pdf"], "--output: expected the name of a .png file"),
        (["activations"], "RUN"),
        (["activations", "none"], "none: no such run folder"),
        (["activations", "RUN", "--classes", "cat"], "--classes: expected some of T-shirt/top, "),
        (["activations", "RUN", "--classes", "bag", "--limit", "1"], "1 images of sample have no"),
        (["activations", "RUN", "--count", "0"], "--count: expected at least 1, got 0"),
        (["activations", "RUN", "--layers", "7"], "layers: expected layers whose outputs"),
        (["activations", "RUN", "--layers", "x"], "layers: expected one of 0, 1, "),
        (["receptive-field", "none"], "none: no such run folder"),
        (["receptive-field", "RUN", "--model", "lenet"], "--model: a run has its own"),
        (["receptive-field", "--limit", "3"], "--limit: images are for the network of a RUN"),
        (["receptive-field", "--layer", "6"], "layer: expected one with a receptive field"),
        (["receptive-field", "--position", "5", "0"], "position: expected a row and a column"),
        (["receptive-field", "--position", "5"], "--position: expected 2 arguments"),
        (["curve", "none"], "none: no such run folder"),
        (["curve", "loose.npz"], "RUN: .: no metrics.json or checkpoint.npz"),
        (["curve", "damaged"], "RUN: damaged: no whole record of a training run"),
        (["confusion", "damaged"], "damaged: no weights.npz or checkpoint.npz"),
        (["confusion", "RUN", "--dataset", "cifar"], "cifar"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(arguments, words, run, place, capsys):
    (place / "damaged").mkdir()
    (place / "damaged" / "metrics.json").write_text("{}")
    (place / "loose.npz").write_bytes((run / "weights.npz").read_bytes())
    before = sorted(p.name for p in place.iterdir())
    try:
        status = main(["plot", *(str(run) if a == "RUN" else a for a in arguments)])
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2
    assert words in said and said.count("\n") == 1 and "Traceback" not in said
    assert sorted(p.name for p in place.iterdir()) == before
