"""The command line, run in this process; `sample` data and few images keep it quick."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from fastconv import datasets, nn
from fastconv.cli import main

QUICK = ["--dataset", "sample", "--limit", "60", "--epochs", "2", "--batch-size", "20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *QUICK, "--output", str(folder)]) == 0
    return folder


@pytest.fixture
def without_pictures(monkeypatch):
    """They take most of the time of a small run."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def test_train_writes_everything(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert len(metrics["history"]["epochs"]) == 2
    assert metrics["images"] == {"train": 60, "test": 60}
    assert np.sum(metrics["confusion"]) == 60
    assert metrics["test_accuracy"] == pytest.approx(np.trace(metrics["confusion"]) / 60)
    assert (run / "checkpoint.npz").exists() and (run / "weights.npz").exists()
    assert not list(run.glob("*.tmp"))


@pytest.mark.parametrize("name", ["learning_curve", "confusion_matrix", "predictions"])
def test_train_draws(run, name):
    pytest.importorskip("matplotlib")
    assert (run / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_train_says_where_things_are(tmp_path, capsys):
    assert main(["train", *QUICK, "--output", str(tmp_path / "a")]) == 0
    said = capsys.readouterr()
    assert "test accuracy" in said.out and str(tmp_path / "a") in said.out
    assert "epoch  train loss" in said.out
    assert "epoch 2/2" in said.err


@pytest.mark.usefixtures("without_pictures")
def test_a_seed_fixes_the_run(tmp_path, capsys):
    results = []
    for name in "ab":
        main(["train", *QUICK, "--seed", "3", "--json", "--output", str(tmp_path / name)])
        results.append(json.loads(capsys.readouterr().out)["history"]["batch_losses"])
    assert results[0] == results[1]


@pytest.mark.usefixtures("without_pictures")
def test_resume_continues_bit_for_bit(run, tmp_path):
    short = tmp_path / "short"
    assert main(["train", *QUICK[:-4], "--epochs", "1", "--batch-size", "20",
                 "--output", str(short)]) == 0  # fmt: skip
    assert main(["train", "--resume", str(short), "--epochs", "2"]) == 0
    one, other = (nn.load_checkpoint(f / "weights.npz").weights for f in (run, short))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.usefixtures("without_pictures")
def test_a_schedule_is_part_of_the_run(run, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", *QUICK, "--schedule", "cosine", "--output", str(folder)]) == 0
    assert nn.load_checkpoint(folder / "weights.npz").meta["schedule"] == "cosine"
    losses = [
        json.loads((f / "metrics.json").read_text())["history"]["batch_losses"]
        for f in (run, folder)
    ]
    assert losses[0][:2] == losses[1][:2] and losses[0][-1] != losses[1][-1]
    assert main(["train", "--resume", str(folder), "--schedule", "constant"]) == 2
    assert "--schedule" in capsys.readouterr().err


@pytest.mark.usefixtures("without_pictures")
def test_interrupted_run_can_be_resumed(tmp_path, monkeypatch, capsys):
    """Ctrl-C during the second epoch, as a signal to a process of its own would arrive."""
    from fastconv import cli

    def interrupt(self, state):
        if state.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(cli._Progress, "on_batch", interrupt)
    folder = tmp_path / "run"
    assert main(["train", *QUICK, "--output", str(folder)]) == 130
    assert f"fastconv train --resume {folder}" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["train", "--resume", str(folder)]) == 0
    assert len(json.loads((folder / "metrics.json").read_text())["history"]["epochs"]) == 2


@pytest.mark.parametrize("how", [[], ["--activation", "sigmoid", "--pool", "avg"]], ids=" ".join)
@pytest.mark.usefixtures("without_pictures")
def test_numba_trains_to_the_same_losses(how, tmp_path, capsys):
    pytest.importorskip("numba")
    losses = []
    for backend in ("native", "numba"):
        where = ["--backend", backend, "--output", str(tmp_path / backend)]
        assert main(["train", *QUICK, *how, *where, "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["history"]["batch_losses"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0, atol=1e-5)


@pytest.mark.usefixtures("without_pictures")
def test_train_tells_once_of_what_numba_compiles(tmp_path, capsys, monkeypatch):
    numba = pytest.importorskip("numba")
    from fastconv import cli

    train = ["train", *QUICK, "--backend", "numba", "--output"]
    assert main([*train, str(tmp_path / "warm")]) == 0
    capsys.readouterr()
    assert main([*train, str(tmp_path / "quiet")]) == 0
    assert "Numba" not in capsys.readouterr().err
    # as if each step met a kernel that is not compiled yet
    monkeypatch.setattr(cli._Progress, "on_batch", lambda self, state: numba.njit(lambda: 0)())
    assert main([*train, str(tmp_path / "noted")]) == 0
    said = capsys.readouterr().err
    assert said.count("Numba compiles its kernels") == 1
    assert len(re.findall(r"^Numba compiled for \d+\.\d s$", said, re.M)) == 1


def test_a_run_is_never_overwritten(run, capsys):
    before = (run / "checkpoint.npz").read_bytes()
    assert main(["train", *QUICK, "--output", str(run)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert (run / "checkpoint.npz").read_bytes() == before


@pytest.mark.usefixtures("without_pictures")
def test_default_folders_are_new(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["train", *QUICK]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == [
        "sample-lenet",
        "sample-lenet-2",
    ]


def test_offline_without_a_data_set_the_sample_serves(tmp_path, monkeypatch, capsys):
    def unavailable(name, split, **kwargs):
        raise datasets.DatasetUnavailable(f"{name}: no network")

    monkeypatch.setattr(datasets, "load", unavailable)
    assert main(["train", "--limit", "40", "--epochs", "1", "--output", str(tmp_path / "r")]) == 0
    said = capsys.readouterr()
    assert "embedded sample" in said.err and "of sample" in said.out


def test_without_matplotlib_it_still_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    folder = tmp_path / "run"
    assert main(["train", *QUICK, "--output", str(folder)]) == 0
    assert "fastconv[train]" in capsys.readouterr().err
    assert (folder / "weights.npz").exists() and not list(folder.glob("*.png"))


def test_evaluate(run, capsys):
    expected = json.loads((run / "metrics.json").read_text())
    assert main(["evaluate", str(run), "--limit", "60", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"] == expected["test_accuracy"]
    assert found["confusion"] == expected["confusion"]
    assert main(["evaluate", str(run / "weights.npz"), "--limit", "60"]) == 0
    assert "Ankle boot" in capsys.readouterr().out


def test_predict_agrees_with_the_network(run, tmp_path, capsys):
    image = datasets.load("sample", "test").images[7]
    np.save(tmp_path / "a.npy", image)
    np.save(tmp_path / "large.npy", image.repeat(3, 0).repeat(2, 1) / 255.0)
    np.save(tmp_path / "dark on light.npy", 255 - image)
    paths = [str(tmp_path / f"{name}.npy") for name in ("a", "large", "dark on light")]
    assert main(["predict", *paths, "--weights", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    net = nn.lenet("relu", "max")
    net.load_state_dict(nn.load_checkpoint(run / "weights.npz").weights)
    chances = nn.probabilities(net, image[None])[0]
    for row in found:
        assert row["class"] == datasets.class_names("sample")[chances.argmax()]
        assert row["probability"] == pytest.approx(chances.max(), rel=1e-5)


def test_predict_reads_pictures(run, tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image")
    image = datasets.load("sample", "test").images[3]
    pillow.fromarray(image).save(tmp_path / "grey.png")
    pillow.fromarray(np.stack([image] * 3, -1)).save(tmp_path / "colour.png")
    paths = [str(tmp_path / name) for name in ("grey.png", "colour.png")]
    assert main(["predict", *paths, "--weights", str(run), "--json"]) == 0
    grey, colour = json.loads(capsys.readouterr().out)
    assert grey["probability"] == colour["probability"] and grey["class"] == colour["class"]


def test_summary_and_info(capsys):
    assert main(["summary", "--model", "lenet_improved", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert main(["info", "--json"]) == 0
    assert "native" in json.loads(capsys.readouterr().out)["backends"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["traim"], "traim"),
        (["train", "--epochs", "0"], "at least 1"),
        (["train", "--lr", "-1"], "positive"),
        (["train", "--model", "vgg"], "vgg"),
        (["train", "--momentum", "0.9"], "--momentum"),
        (["train", "--backend", "nonesuch"], "nonesuch"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["evaluate", "nowhere"], "nowhere"),
        (["predict", "nowhere.npy", "--weights", "nowhere"], "nowhere.npy"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    said = capsys.readouterr().err
    assert status == 2
    assert words in said and said.count("\n") == 1 and "Traceback" not in said


def test_what_is_not_a_run_is_refused(tmp_path, capsys):
    other = tmp_path / "other.npz"
    np.savez(other, a=np.ones(3))
    assert main(["evaluate", str(other)]) == 2
    assert "other.npz" in capsys.readouterr().err


def test_what_is_not_an_image_is_refused(run, tmp_path, capsys):
    np.save(tmp_path / "line.npy", np.ones(5))
    assert main(["predict", str(tmp_path / "line.npy"), "--weights", str(run)]) == 2
    assert "(H, W)" in capsys.readouterr().err


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fastconv", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("fastconv ")


def test_choices_are_the_tables_of_nn():
    """The command line has them written down, so that its help does not import the network."""
    from fastconv import cli, nn

    sub = next(a for a in cli._parser()._actions if a.dest == "command")
    for command in ("train", "summary"):
        choices = {a.dest: a.choices for a in sub.choices[command]._actions}
        assert set(choices["model"]) == set(nn.MODELS)
        assert set(choices["pool"]) == set(nn.POOLS)
        assert set(choices["activation"]) == set(nn.ACTIVATIONS)
