"""fit, evaluate, predict, checkpoints: repeatable, resumable, interruptible."""

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from fastconv import nn

SAMPLES = 50


def data(seed=0, samples=SAMPLES):
    """Small images whose class is the brightest quarter."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, samples).astype(np.uint8)
    images = rng.integers(0, 100, (samples, 6, 6)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 3 * (label // 2), 3 * (label % 2)
        image[row : row + 3, column : column + 3] += 120
    return images, labels


def small_net(seed=0):
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.Sigmoid(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 4),
    )
    return nn.init.initialize(net, "xavier_uniform", seed)


def adam(net):
    return nn.Adam(net.parameters(), lr=0.01)


def momentum(net):
    return nn.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)


def assert_same_weights(a, b):
    for (name, x), (_, y) in zip(a.named_parameters(), b.named_parameters(), strict=True):
        np.testing.assert_array_equal(x.data, y.data, err_msg=name)


def curve(history):
    """All of a history but the clock."""
    records = [
        (r.epoch, r.train_loss, r.train_accuracy, r.test_loss, r.test_accuracy) for r in history
    ]
    return records, history.batch_losses


def test_fit_learns():
    net = small_net()
    history = nn.fit(net, data(), epochs=30, batch_size=10, optimizer=adam(net), validation=data(1))
    assert history.final.test_accuracy > 0.9 and history.final.train_accuracy > 0.9
    assert history.column("train_loss")[0] > history.final.train_loss
    assert len(history) == 30 and len(history.batch_losses) == 150
    assert history.final.images_per_second > 0
    assert net.training and not net._workspace._buffers


def test_fit_twice_gives_the_same_bits():
    nets = [small_net(), small_net()]
    curves = [curve(nn.fit(net, data(), epochs=3, batch_size=16, lr=0.5)) for net in nets]
    assert curves[0] == curves[1]
    assert_same_weights(*nets)


def test_fit_is_the_plain_loop():
    """What the loop does, spelled out: order from the seed, pixels over 255, a mean of means."""
    images, labels = data()
    net, other = small_net(), small_net()
    history = nn.fit(net, (images, labels), epochs=2, batch_size=16, lr=0.5, seed=3)
    criterion = nn.CrossEntropyLoss()
    optimizer = nn.SGD(other.parameters(), lr=0.5)
    rng = np.random.default_rng(3)
    losses, right = [], 0
    for epoch in range(2):
        order = rng.permutation(SAMPLES)
        for start in range(0, SAMPLES, 16):
            index = order[start : start + 16]
            x = images[index, None].astype(np.float32) / np.float32(255)
            other.zero_grad()
            y = other(x)
            losses.append(criterion(y, labels[index]))
            right += epoch == 1 and (y.argmax(axis=1) == labels[index]).sum()
            other.backward(criterion.backward())
            optimizer.step()
    assert history.batch_losses == losses
    assert history.final.train_accuracy == right / SAMPLES
    expected = np.dot(losses[4:], [16, 16, 16, 2]) / SAMPLES
    assert history.final.train_loss == pytest.approx(expected, rel=1e-15)
    assert_same_weights(net, other)


def test_float_inputs_and_datasets_train_alike():
    images, labels = data()
    as_floats = images[:, None].astype(np.float32) / np.float32(255)
    dataset = SimpleNamespace(images=images, labels=labels)
    nets = [small_net() for _ in range(3)]
    for net, given in zip(nets, [(images, labels), (as_floats, labels), dataset], strict=True):
        nn.fit(net, given, epochs=1, batch_size=16, lr=0.5)
    assert_same_weights(nets[0], nets[1])
    assert_same_weights(nets[0], nets[2])


def test_order_and_last_batch():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x[:, 0].astype(int).tolist())
            return x

        def backward(self, grad_output, need_input_grad=True):
            return grad_output

    x = np.zeros((7, 2), np.float32)
    x[:, 0] = np.arange(7)
    net = nn.Sequential(Spy(), nn.Linear(2, 2, rng=0))
    nn.fit(net, (x, [0] * 7), epochs=1, batch_size=3, shuffle=False)
    assert seen == [[0, 1, 2], [3, 4, 5], [6]]
    seen.clear()
    nn.fit(net, (x, [0] * 7), epochs=2, batch_size=3, drop_last=True)
    assert [len(batch) for batch in seen] == [3, 3, 3, 3] and seen[:2] != seen[2:]


def test_regression_has_no_accuracy():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3)).astype(np.float32)
    target = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    net = nn.Sequential(nn.Linear(3, 1, rng=0))
    history = nn.fit(
        net,
        (x, target),
        epochs=40,
        batch_size=8,
        lr=0.1,
        loss=nn.MSELoss(),
        validation=(x, target),
    )
    assert history.final.train_accuracy is None and history.final.test_accuracy is None
    assert history.final.test_loss < 1e-4
    np.testing.assert_allclose(net[0].weight.data, [[1, -2, 0.5]], atol=1e-2)
    assert "-" in history.table()


class Log:
    """Callbacks as the loop calls them."""

    def __init__(self):
        self.events = []

    def on_fit_start(self, state):
        self.events.append(("fit", state.epoch, state.steps, state.samples, state.epochs))

    def on_epoch_start(self, state):
        self.events.append(("epoch start", state.epoch, state.step))

    def on_batch(self, state):
        self.events.append(("batch", state.epoch, state.step, state.images))
        assert state.loss == state.history.batch_losses[-1]
        assert 0 <= state.accuracy <= 1 and state.mean_loss > 0 and state.images_per_second > 0

    def on_epoch(self, state):
        self.events.append(("epoch", state.epoch, len(state.history)))
        assert state.history.final.epoch == state.epoch

    def on_fit_end(self, state):
        self.events.append(("end", len(state.history)))


def test_callbacks():
    log = Log()
    nn.fit(small_net(), data(), epochs=2, batch_size=25, callbacks=[log, object(), nn.Callback()])
    assert log.events == [
        ("fit", 1, 2, 50, 2),
        ("epoch start", 1, 0),
        ("batch", 1, 1, 25),
        ("batch", 1, 2, 50),
        ("epoch", 1, 1),
        ("epoch start", 2, 0),
        ("batch", 2, 1, 25),
        ("batch", 2, 2, 50),
        ("epoch", 2, 2),
        ("end", 2),
    ]


def test_cosine_annealing():
    net, steps = small_net(), -(-SAMPLES // 16)
    seen = []

    class Watch(nn.Callback):
        def on_epoch_start(self, state):
            seen.append(state.optimizer.lr)

        def on_batch(self, state):
            seen.append(state.optimizer.lr)

    sgd = nn.SGD(net.parameters(), lr=7.0)
    schedule = nn.CosineAnnealing(0.2, least=0.1)
    nn.fit(net, data(), epochs=2, batch_size=16, optimizer=sgd, callbacks=[schedule, Watch()])
    half = seen[steps + 1]  # the second epoch's start is the middle of the run
    assert seen[0] == 0.2
    assert half == pytest.approx(0.15)
    assert seen[:-1] == sorted(seen[:-1], reverse=True)
    assert 0.1 < sgd.lr < 0.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1.0,), "lr: "), ((0.1, 0.2), "least: "), ((float("nan"),), "lr: ")],
)
def test_cosine_annealing_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.CosineAnnealing(*arguments)


def test_a_callback_may_stop_the_run():
    class Stop(nn.Callback):
        def on_epoch(self, state):
            state.stop = state.epoch == 2

    assert len(nn.fit(small_net(), data(), epochs=9, batch_size=25, callbacks=[Stop()])) == 2


class Halve(nn.Callback):
    """A learning rate schedule: the rate is part of the state a resumed run needs."""

    def on_epoch(self, state):
        state.optimizer.lr /= 2


class InterruptAt(nn.Callback):
    """Ctrl-C, as the terminal sends it, within a given step."""

    def __init__(self, epoch, step, signals=False):
        self.at, self.signals = (epoch, step), signals

    def on_batch(self, state):
        if (state.epoch, state.step) == self.at:
            if self.signals:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise KeyboardInterrupt


@pytest.mark.parametrize("optimizer", [adam, momentum])
@pytest.mark.parametrize("schedule", [Halve(), nn.CosineAnnealing(0.05)], ids=["halve", "cosine"])
@pytest.mark.parametrize("epoch, step", [(1, 1), (2, 3), (2, 4), (3, 2)])
def test_resume_continues_bit_for_bit(tmp_path, optimizer, schedule, epoch, step):
    path = tmp_path / "run.npz"
    whole, broken, resumed = small_net(), small_net(), small_net(seed=9)
    options = {"epochs": 4, "batch_size": 16, "validation": data(1)}
    expected = nn.fit(whole, data(), optimizer=optimizer(whole), callbacks=[schedule], **options)
    with pytest.raises(KeyboardInterrupt, match=f"epoch {epoch}, step {step} of 4; checkpoint wri"):
        nn.fit(
            broken,
            data(),
            optimizer=optimizer(broken),
            callbacks=[schedule, InterruptAt(epoch, step)],
            checkpoint=path,
            **options,
        )
    log = Log()
    history = nn.fit(
        resumed,
        data(),
        optimizer=optimizer(resumed),
        callbacks=[schedule, log],
        checkpoint=path,
        resume=True,
        **options,
    )
    assert curve(history) == curve(expected)
    assert_same_weights(resumed, whole)
    assert log.events[:2] == [("fit", epoch, 4, 50, 4), ("epoch start", epoch, step)]


def test_more_epochs_continue_a_finished_run(tmp_path):
    path = tmp_path / "run.npz"
    whole, net = small_net(), small_net()
    expected = nn.fit(whole, data(), epochs=4, batch_size=16, optimizer=momentum(whole))
    nn.fit(net, data(), epochs=2, batch_size=16, optimizer=momentum(net), checkpoint=path)
    again = small_net(seed=5)
    history = nn.fit(again, data(), epochs=4, batch_size=16, optimizer=momentum(again), resume=path)
    assert curve(history) == curve(expected)
    assert_same_weights(again, whole)
    finished = nn.fit(
        small_net(), data(), epochs=2, batch_size=16, optimizer=momentum(again), resume=path
    )
    assert curve(finished) == (curve(expected)[0][:2], expected.batch_losses[:8])


def test_checkpoint_every_few_steps(tmp_path):
    """A run that dies without a word goes on from the last file, mid-epoch."""
    path = tmp_path / "run.npz"

    class Crash(nn.Callback):
        def on_batch(self, state):
            if (state.epoch, state.step) == (2, 4):
                raise RuntimeError("power cut")

    net, whole, resumed = small_net(), small_net(), small_net(seed=1)
    options = {"epochs": 3, "batch_size": 16, "lr": 0.3}
    expected = nn.fit(whole, data(), **options)
    with pytest.raises(RuntimeError, match="power cut"):
        nn.fit(net, data(), checkpoint=path, checkpoint_every=2, callbacks=[Crash()], **options)
    run = nn.load_checkpoint(path).run
    assert (run["progress"]["epoch"], run["progress"]["step"]) == (2, 2)
    assert curve(nn.fit(resumed, data(), resume=path, **options)) == curve(expected)
    assert_same_weights(resumed, whole)


def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path):
    path = tmp_path / "run.npz"
    net, other = small_net(), small_net(seed=1)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=f"checkpoint written to {path}"):
        nn.fit(
            net,
            data(),
            epochs=3,
            batch_size=16,
            callbacks=[InterruptAt(1, 2, signals=True)],
            checkpoint=path,
        )
    assert signal.getsignal(signal.SIGINT) is handler
    other.load_state_dict(nn.load_checkpoint(path).weights)
    assert_same_weights(net, other)
    assert os.listdir(tmp_path) == ["run.npz"]


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_ctrl_c_within_a_step_lets_it_finish(tmp_path, where):
    class Signal(nn.Module):
        def forward(self, x):
            if self.training and where == "forward":
                os.kill(os.getpid(), signal.SIGINT)
            return x

        def backward(self, grad_output, need_input_grad=True):
            if where == "backward":
                os.kill(os.getpid(), signal.SIGINT)
            return grad_output

    path = tmp_path / "run.npz"
    inner = small_net()
    net = nn.Sequential(inner, Signal())
    with pytest.raises(KeyboardInterrupt, match="epoch 1, step 1 of 4; checkpoint written"):
        nn.fit(net, data(), epochs=1, batch_size=16, lr=0.5, checkpoint=path)
    plain = small_net()
    with pytest.raises(KeyboardInterrupt):
        nn.fit(plain, data(), epochs=1, batch_size=16, lr=0.5, callbacks=[InterruptAt(1, 1)])
    assert_same_weights(inner, plain)


def test_interrupted_evaluation_is_made_up_for(tmp_path):
    """Ctrl-C between an epoch's last step and its record."""
    path = tmp_path / "run.npz"

    class InterruptedLoss(nn.CrossEntropyLoss):
        calls = 0

        def forward(self, output, target):
            self.calls += 1
            if self.calls == 5:  # four steps, then the evaluation's first batch
                raise KeyboardInterrupt
            return super().forward(output, target)

    options = {"epochs": 2, "batch_size": 16, "validation": data(1)}
    whole, net = small_net(), small_net()
    expected = nn.fit(whole, data(), **options)
    with pytest.raises(KeyboardInterrupt, match="epoch 1, step 4 of 4"):
        nn.fit(net, data(), loss=InterruptedLoss(), checkpoint=path, **options)
    assert net.training
    resumed = small_net(seed=4)
    assert curve(nn.fit(resumed, data(), resume=path, **options)) == curve(expected)
    assert_same_weights(resumed, whole)


def test_interrupt_without_checkpoint():
    with pytest.raises(KeyboardInterrupt, match="no checkpoint was asked for"):
        nn.fit(small_net(), data(), epochs=1, batch_size=16, callbacks=[InterruptAt(1, 1)])


def test_interrupt_within_an_update_leaves_the_older_checkpoint(tmp_path):
    """Where signals cannot be held back, half-updated weights are not written."""
    path = tmp_path / "run.npz"

    class Half(nn.SGD):
        updates = 0

        def _update(self, *arguments):
            self.updates += 1
            if self.updates == 4 * 4 + 2:  # second parameter, first step of epoch 2
                raise KeyboardInterrupt
            super()._update(*arguments)

    net = small_net()
    with pytest.raises(KeyboardInterrupt, match="epoch 2, step 0 of 4; .*run.npz is from before"):
        nn.fit(
            net,
            data(),
            epochs=2,
            batch_size=16,
            optimizer=Half(net.parameters(), 0.1),
            checkpoint=path,
        )
    assert nn.load_checkpoint(path).run["progress"]["epoch"] == 2
    clean = small_net()
    nn.fit(clean, data(), epochs=1, batch_size=16, lr=0.1)
    clean_again = small_net()
    clean_again.load_state_dict(nn.load_checkpoint(path).weights)
    assert_same_weights(clean, clean_again)


def test_failed_write_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    nn.save_checkpoint(path, small_net())
    before = path.read_bytes()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        nn.save_checkpoint(path, small_net(seed=1))
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["run.npz"]


def test_checkpoint_holds_meta_and_no_pickle(tmp_path):
    path = tmp_path / "lenet.npz"
    meta = {"model": "lenet", "pool": "max"}
    nn.fit(small_net(), data(), epochs=1, checkpoint=path, meta=meta)
    found = nn.load_checkpoint(path)
    assert found.meta == meta and found.optimizer["name"] == "SGD"
    with np.load(path, allow_pickle=False) as archive:
        assert all(archive[name].dtype.kind in "fS" for name in archive.files)
        assert json.loads(archive["header"].item())["format"] == "fastconv-checkpoint"
    nn.fit(small_net(), data(), epochs=2, checkpoint=path, resume=True)
    assert nn.load_checkpoint(path).meta == meta


def test_damaged_checkpoints(tmp_path):
    good = tmp_path / "good.npz"
    nn.save_checkpoint(good, small_net())
    cut = tmp_path / "cut.npz"
    cut.write_bytes(good.read_bytes()[:-200])
    other = tmp_path / "other.npz"
    np.savez(other, weights=np.zeros(3))
    plain = tmp_path / "array.npy"
    np.save(plain, np.zeros(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, header=np.array([{"a": 1}], object))
    text = tmp_path / "text.npz"
    text.write_text("hello")
    empty = tmp_path / "empty.npz"
    empty.touch()
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, header=np.array(b'{"format": "x"}'))
    for path in (cut, other, plain, pickled, text, empty, foreign):
        with pytest.raises(ValueError, match=f"{path.name} is not a whole fastconv checkpoint"):
            nn.load_checkpoint(path)
    newer = tmp_path / "newer.npz"
    np.savez(newer, header=np.array(b'{"format": "fastconv-checkpoint", "version": 99}'))
    with pytest.raises(ValueError, match="of version 99, this fastconv reads up to 1"):
        nn.load_checkpoint(newer)
    with pytest.raises(FileNotFoundError, match=r"none\.npz"):
        nn.load_checkpoint(tmp_path / "none.npz")


def test_loss_that_is_no_number(tmp_path):
    path = tmp_path / "run.npz"
    net = small_net()
    with pytest.raises(FloatingPointError, match="loss is nan at epoch 1, step 2 .*rate 0.1"):
        images = data()[0][:, None].astype(np.float32)
        images[20:] = np.nan
        nn.fit(
            net,
            (images, data()[1]),
            epochs=1,
            batch_size=20,
            shuffle=False,
            checkpoint=path,
            checkpoint_every=1,
        )
    assert nn.load_checkpoint(path).run["progress"]["step"] == 1


def test_evaluate():
    images, labels = data()
    net = small_net()
    nn.fit(net, (images, labels), epochs=3, batch_size=10, optimizer=adam(net))
    x = images[:, None].astype(np.float32) / np.float32(255)
    scores = net(x)
    for batch_size in (7, 256):
        result = nn.evaluate(net, (images, labels), batch_size=batch_size)
        assert result.samples == SAMPLES and result.images_per_second > 0
        assert result.accuracy == (scores.argmax(axis=1) == labels).mean()
        assert result.loss == pytest.approx(nn.CrossEntropyLoss()(scores, labels), rel=1e-6)
        expected = np.zeros((4, 4), int)
        np.add.at(expected, (labels, scores.argmax(axis=1)), 1)
        np.testing.assert_array_equal(result.confusion, expected)


def test_predict_and_probabilities():
    images, labels = data()
    net = small_net().eval()
    x = images[:, None].astype(np.float32) / np.float32(255)
    scores = net(x)
    dataset = SimpleNamespace(images=images, labels=labels)
    for given in (images, x, dataset):
        for batch_size in (7, 256):
            classes = nn.predict(net, given, batch_size=batch_size)
            np.testing.assert_array_equal(classes, scores.argmax(axis=1))
    p = nn.probabilities(net, images)
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, expected, rtol=1e-5)
    assert not net.training


def test_history_round_trip():
    history = nn.fit(small_net(), data(), epochs=2, batch_size=25, validation=data(1))
    again = nn.History.from_dict(json.loads(json.dumps(history.as_dict())))
    assert curve(again) == curve(history) and list(again) == list(history)
    assert again[1] == history.final and repr(again) == "History(2 epochs, 4 batches)"
    assert len(history.table().splitlines()) == 3
    with pytest.raises(ValueError, match="name: expected one of epoch, train_loss, .* got 'los'"):
        history.column("los")
    assert nn.History().final is None


FIT_ERRORS = [
    ({"data": data()[0]}, TypeError, "data: expected a Dataset .* got ndarray"),
    ({"data": (data()[0], [1])}, ValueError, r"data: .* inputs \(50, .* targets \(1,\)"),
    ({"data": (np.zeros((0, 6, 6)), [])}, ValueError, "data: expected at least one sample"),
    ({"data": (np.zeros((2, 6), "U1"), [0, 0])}, TypeError, "data: expected real numbers"),
    ({"data": (np.zeros(2), [0, 0])}, ValueError, r"data: expected a batch .* got shape \(2,\)"),
    ({"validation": 3}, TypeError, "validation: expected a Dataset .* got int"),
    ({"epochs": 1.5}, TypeError, "epochs: expected an integer, got float 1.5"),
    ({"epochs": -1}, ValueError, "epochs: expected at least 0, got -1"),
    ({"seed": "x"}, TypeError, "seed: expected an integer, got str 'x'"),
    ({"seed": -1}, ValueError, "seed: expected at least 0, got -1"),
    ({"batch_size": 0}, ValueError, "batch_size: expected at least 1, got 0"),
    ({"batch_size": 51, "drop_last": True}, ValueError, "batch_size: 51 is more than the 50"),
    ({"checkpoint_every": 1}, ValueError, "checkpoint_every: needs checkpoint="),
    ({"resume": True}, ValueError, "resume: True needs checkpoint="),
    ({"resume": "no/such.npz"}, FileNotFoundError, r"no/such\.npz"),
    ({"loss": nn.MSELoss("sum")}, ValueError, "loss: expected reduction 'mean', got 'sum'"),
    ({"lr": -1}, ValueError, "lr: expected at least 0, got -1.0"),
    ({"meta": {"a": np.zeros(1)}, "checkpoint": "x.npz"}, TypeError, "meta: expected what JSON"),
]


@pytest.mark.parametrize("change, kind, message", FIT_ERRORS)
def test_fit_errors(change, kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"data": data(), "epochs": 1, **change}
    with pytest.raises(kind, match=message):
        nn.fit(small_net(), given.pop("data"), **given)
    assert not os.listdir(tmp_path)


def test_rate_and_optimizer_together():
    net = small_net()
    with pytest.raises(ValueError, match="lr: the optimizer has its own .*0.01.*got lr=0.5"):
        nn.fit(net, data(), epochs=1, optimizer=adam(net), lr=0.5)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"batch_size": 10}, "batch_size=16, got batch_size=10"),
        ({"shuffle": False}, "shuffle=True, got shuffle=False"),
        ({"data": data(samples=40)}, "samples=50, got samples=40"),
        ({"optimizer": adam}, "written with optimizer SGD, got Adam"),
        (
            {"net": nn.Sequential(nn.Linear(2, 2, rng=0))},
            "state: unexpected '4.weight', '4.bias'; expected 0.weight, 0.bias",
        ),
    ],
)
def test_resume_refuses_another_run(tmp_path, change, message):
    path = tmp_path / "run.npz"
    nn.fit(small_net(), data(), epochs=1, batch_size=16, checkpoint=path)
    given = {"net": small_net(), "data": data(), "epochs": 2, "batch_size": 16, **change}
    if "optimizer" in given:
        given["optimizer"] = given["optimizer"](given["net"])
    with pytest.raises(ValueError, match=message):
        nn.fit(given.pop("net"), given.pop("data"), resume=path, **given)


def test_weights_alone_are_no_run(tmp_path):
    path = tmp_path / "weights.npz"
    nn.save_checkpoint(path, small_net())
    with pytest.raises(ValueError, match="holds weights, not a training run"):
        nn.fit(small_net(), data(), epochs=1, resume=path)


@pytest.mark.parametrize(
    "images, kind, message",
    [
        (np.zeros((0, 6, 6), np.uint8), ValueError, "images: expected at least one"),
        (np.zeros((2, 6, 6), complex), TypeError, "images: expected real numbers"),
        (np.zeros(3, np.float32), ValueError, "images: expected a batch"),
    ],
)
def test_predict_errors(images, kind, message):
    with pytest.raises(kind, match=message):
        nn.predict(small_net(), images)


def test_predict_needs_class_scores():
    net = nn.Sequential(nn.ReLU())
    with pytest.raises(ValueError, match=r"net: expected an output \(N, classes\), got \(1, 1, 2"):
        nn.predict(net, np.zeros((1, 1, 2, 2), np.float32))
