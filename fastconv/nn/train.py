"""The training loop, evaluation and prediction.

:func:`fit` trains, :func:`evaluate` measures, :func:`predict` and :func:`probabilities` apply a
network. A run is exactly repeatable: the seed fixes the order of the images, and a checkpoint
holds everything that the next step depends on, so that a resumed run gives the same bits as one
that was never interrupted.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ._workspace import Workspace
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .layers import Module, _is_stateless
from .losses import CrossEntropyLoss, Loss
from .optim import SGD, Optimizer

__all__ = [
    "Callback",
    "EpochRecord",
    "Evaluation",
    "History",
    "TrainState",
    "evaluate",
    "fit",
    "predict",
    "probabilities",
]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """What one epoch gave.

    Attributes
    ----------
    epoch : int
        Number of the epoch, from 1.
    train_loss : float
        Mean loss over the epoch's images, each as it was when its batch came by.
    train_accuracy : float or None
        Share of the epoch's images classified correctly, likewise; None without class labels.
    test_loss, test_accuracy : float or None
        On the `validation` data, after the epoch; None where there were none.
    seconds : float
        Time in training steps (without evaluation, callbacks and checkpoints).
    images_per_second : float
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None
    seconds: float
    images_per_second: float


class History:
    """The records of a run: a sequence of :class:`EpochRecord`.

    Attributes
    ----------
    epochs : list of EpochRecord
    batch_losses : list of float
        Mean loss of every batch since the beginning of the run, those of an unfinished epoch
        included.

    Examples
    --------
    >>> from fastconv.nn import EpochRecord, History
    >>> history = History([EpochRecord(1, 2.25, 0.125, 2.0, 0.25, 0.5, 120000.0)])
    >>> history.final.test_accuracy
    0.25
    >>> history.column("train_loss")
    [2.25]
    >>> print(history.table())
    epoch  train loss  train acc  test loss  test acc  seconds  images/s
        1      2.2500     0.1250     2.0000    0.2500      0.5    120000
    """

    def __init__(
        self, epochs: Iterable[EpochRecord] = (), batch_losses: Iterable[float] = ()
    ) -> None:
        self.epochs = list(epochs)
        self.batch_losses = list(batch_losses)

    def __len__(self) -> int:
        return len(self.epochs)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.epochs)

    def __getitem__(self, index: int) -> EpochRecord:
        return self.epochs[index]

    def __repr__(self) -> str:
        return f"History({len(self.epochs)} epochs, {len(self.batch_losses)} batches)"

    @property
    def final(self) -> EpochRecord | None:
        """The last finished epoch, or None."""
        return self.epochs[-1] if self.epochs else None

    def column(self, name: str) -> list:
        """One attribute of every epoch, in order, for a plot.

        Parameters
        ----------
        name : str
            An attribute of :class:`EpochRecord`.
        """
        names = [f.name for f in fields(EpochRecord)]
        if name not in names:
            raise ValueError(f"name: expected one of {', '.join(names)}; got {name!r}")
        return [getattr(record, name) for record in self.epochs]

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, ready for ``json.dump``."""
        return {
            "epochs": [asdict(record) for record in self.epochs],
            "batch_losses": list(self.batch_losses),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> History:
        """The history that :meth:`as_dict` wrote."""
        return cls([EpochRecord(**record) for record in values["epochs"]], values["batch_losses"])

    def table(self) -> str:
        """A table with one line per epoch, for the terminal."""

        def number(value: float | None, width: int, places: int) -> str:
            return "-".rjust(width) if value is None else f"{value:{width}.{places}f}"

        lines = ["epoch  train loss  train acc  test loss  test acc  seconds  images/s"]
        for r in self.epochs:
            lines.append(
                f"{r.epoch:5d}  {number(r.train_loss, 10, 4)}  {number(r.train_accuracy, 9, 4)}"
                f"  {number(r.test_loss, 9, 4)}  {number(r.test_accuracy, 8, 4)}"
                f"  {r.seconds:7.1f}  {r.images_per_second:8.0f}"
            )
        return "\n".join(lines)


@dataclass(slots=True)
class TrainState:
    """Where :func:`fit` stands; the one argument of every callback.

    Attributes
    ----------
    net : Module
    optimizer : Optimizer
        A callback may change ``state.optimizer.lr``.
    history : History
        Finished epochs; in ``on_epoch`` its last record is that epoch's.
    epochs : int
        Number of epochs asked for.
    steps : int
        Number of batches in an epoch.
    samples : int
        Number of images in the training data.
    epoch : int
        Current epoch, from 1; in ``on_fit_end`` the one that would come next.
    step : int
        Batches of this epoch that are done: in ``on_batch`` from 1 to `steps`; in
        ``on_epoch_start`` 0, or more when the run was resumed within the epoch.
    images : int
        Images of this epoch that are done.
    loss : float
        Mean loss of the last batch.
    loss_sum : float
        Sum of the losses of this epoch's images.
    correct : int or None
        How many of this epoch's images were classified correctly; None without class labels.
    seconds : float
        Time in this epoch's steps.
    resumed : bool
        Whether the run began from a checkpoint.
    stop : bool
        A callback sets it to end the run after this batch or epoch, as if finished.
    """

    net: Module
    optimizer: Optimizer
    history: History
    epochs: int
    steps: int
    samples: int
    epoch: int = 1
    step: int = 0
    images: int = 0
    loss: float = math.nan
    loss_sum: float = 0.0
    correct: int | None = 0
    seconds: float = 0.0
    resumed: bool = False
    stop: bool = False

    @property
    def mean_loss(self) -> float:
        """Mean loss over this epoch so far."""
        return self.loss_sum / self.images if self.images else math.nan

    @property
    def accuracy(self) -> float | None:
        """Training accuracy over this epoch so far."""
        if self.correct is None or not self.images:
            return None
        return self.correct / self.images

    @property
    def images_per_second(self) -> float:
        """Training speed over this epoch so far."""
        return self.images / self.seconds if self.seconds else math.nan


class Callback:
    """What :func:`fit` calls as it goes; override what is wanted.

    Any object with some of these methods will do: subclassing is a convenience. A callback that
    raises ``KeyboardInterrupt`` ends the run as Ctrl-C does.

    Examples
    --------
    >>> import sys
    >>> from fastconv import nn
    >>> class Bar(nn.Callback):
    ...     def on_batch(self, state):
    ...         done = f"epoch {state.epoch}: {state.step}/{state.steps}"
    ...         print(f"{done} loss {state.mean_loss:.3f}", end="\\r", file=sys.stderr)
    ...     def on_epoch(self, state):
    ...         print(state.history.final, file=sys.stderr)
    """

    def on_fit_start(self, state: TrainState) -> None:
        """Before the first step."""

    def on_epoch_start(self, state: TrainState) -> None:
        """Before an epoch's first step (again where a run is resumed within the epoch)."""

    def on_batch(self, state: TrainState) -> None:
        """After each step: the weights are updated."""

    def on_epoch(self, state: TrainState) -> None:
        """After each epoch and its evaluation, before its checkpoint is written."""

    def on_fit_end(self, state: TrainState) -> None:
        """At the end; not called when the run was interrupted or failed."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What :func:`evaluate` measured.

    Attributes
    ----------
    loss : float
        Mean loss.
    accuracy : float or None
        Share of samples classified correctly; None without class labels.
    confusion : (classes, classes) int64 array or None
        ``confusion[i, j]`` samples of class i were taken for class j.
    samples : int
    seconds : float
    images_per_second : float
    """

    loss: float
    accuracy: float | None
    confusion: np.ndarray | None
    samples: int
    seconds: float
    images_per_second: float


@dataclass(slots=True)
class _Samples:
    """Inputs and targets, served in batches of the network's dtype."""

    inputs: np.ndarray
    targets: np.ndarray | None
    dtype: np.dtype
    pixels: bool = field(init=False)

    def __post_init__(self) -> None:
        self.pixels = self.inputs.dtype == np.uint8
        if self.inputs.ndim == 3 and self.pixels:
            self.inputs = self.inputs[:, None]

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(
        self, index: np.ndarray | slice, workspace: Workspace
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The samples that `index` selects: network input and targets."""
        if isinstance(index, slice):
            chosen = self.inputs[index]
        else:
            shape = (len(index), *self.inputs.shape[1:])
            chosen = workspace.take(shape, self.inputs.dtype)
            # "clip" writes straight into out; the default mode would go through a buffer.
            np.take(self.inputs, index, axis=0, out=chosen, mode="clip")
        targets = None if self.targets is None else self.targets[index]
        if self.pixels:
            scaled = workspace.take(chosen.shape, self.dtype)
            np.divide(chosen, self.dtype.type(255), out=scaled)
            return scaled, targets
        return chosen.astype(self.dtype, copy=False), targets


def _net_dtype(net: Module) -> np.dtype:
    for parameter in net.parameters():
        return parameter.data.dtype
    return np.dtype(np.float32)


def _as_inputs(images: Any, name: str) -> np.ndarray:
    images = np.asarray(getattr(images, "images", images))
    if images.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, got dtype {images.dtype}")
    if images.ndim < 2:
        raise ValueError(f"{name}: expected a batch such as (N, C, H, W), got shape {images.shape}")
    return images


def _as_samples(net: Module, data: Any, name: str) -> _Samples:
    if hasattr(data, "images") and hasattr(data, "labels"):
        inputs, targets = data.images, data.labels
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        inputs, targets = data
    else:
        raise TypeError(
            f"{name}: expected a Dataset (with .images and .labels) or a pair (inputs, targets), "
            f"got {type(data).__name__}"
        )
    inputs, targets = _as_inputs(inputs, name), np.asarray(targets)
    if targets.ndim == 0 or len(inputs) != len(targets):
        raise ValueError(
            f"{name}: expected as many targets as inputs, got inputs {inputs.shape} "
            f"and targets {targets.shape}"
        )
    if len(inputs) == 0:
        raise ValueError(f"{name}: expected at least one sample, got inputs {inputs.shape}")
    return _Samples(inputs, targets, _net_dtype(net))


def _positive(value: Any, name: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}")
    return int(value)


class _Evaluating:
    """A network in evaluation mode for the length of a with-block."""

    def __init__(self, net: Module) -> None:
        self.modules = [(module, module.training) for module in net.modules()]

    def __enter__(self) -> None:
        for module, _ in self.modules:
            module.training = False

    def __exit__(self, *exc: object) -> None:
        for module, training in self.modules:
            module.training = training


def _outputs(
    net: Module, samples: _Samples, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """(output, targets) of each batch, in order."""
    workspace = Workspace()
    for start in range(0, len(samples), batch_size):
        x, targets = samples.batch(slice(start, start + batch_size), workspace)
        if _is_stateless(net):
            yield net._run(x, workspace, False)[0], targets
        else:
            yield net(x), targets


def evaluate(
    net: Module, data: Any, *, batch_size: int = 256, loss: Loss | None = None
) -> Evaluation:
    """Loss, accuracy and confusion matrix of a network on labelled data.

    The network's mode (train or eval) is as before afterwards, and nothing that its
    ``backward`` needs is touched.

    Parameters
    ----------
    net : Module
    data : Dataset or pair (inputs, targets)
        As in :func:`fit`.
    batch_size : int
        Images at a time; it bounds the memory and hardly changes the result.
    loss : Loss, optional
        Default :class:`CrossEntropyLoss`.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError, ValueError
        When `data` is not inputs with as many targets, or a label is no class of the output.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, rng=0))
    >>> result = nn.evaluate(net, (np.eye(4, dtype="f4").reshape(4, 1, 2, 2), [0, 1, 0, 1]))
    >>> result.samples, result.confusion.shape
    (4, (2, 2))
    """
    samples = _as_samples(net, data, "data")
    batch_size = _positive(batch_size, "batch_size")
    loss = CrossEntropyLoss() if loss is None else loss
    started = time.perf_counter()
    total = 0.0
    confusion = None
    with _Evaluating(net):
        for output, targets in _outputs(net, samples, batch_size):
            total += loss(output, targets) * len(targets)
            if loss.takes_classes:
                classes = output.shape[1]
                cells = targets.astype(np.intp) * classes + output.argmax(axis=1)
                counts = np.bincount(cells, minlength=classes * classes)
                confusion = counts if confusion is None else confusion + counts
    accuracy = None
    if confusion is not None:
        confusion = confusion.reshape(classes, classes)
        accuracy = int(np.trace(confusion)) / len(samples)
    seconds = time.perf_counter() - started
    return Evaluation(
        total / len(samples), accuracy, confusion, len(samples), seconds, len(samples) / seconds
    )


def _scores(net: Module, images: Any, batch_size: int) -> np.ndarray:
    """The network's output for every image, in one array."""
    samples = _Samples(_as_inputs(images, "images"), None, _net_dtype(net))
    batch_size = _positive(batch_size, "batch_size")
    if len(samples) == 0:
        raise ValueError(f"images: expected at least one, got shape {samples.inputs.shape}")
    scores = None
    done = 0
    with _Evaluating(net):
        for output, _ in _outputs(net, samples, batch_size):
            if output.ndim != 2:
                raise ValueError(f"net: expected an output (N, classes), got {output.shape}")
            if scores is None:
                scores = np.empty((len(samples), output.shape[1]), output.dtype)
            scores[done : done + len(output)] = output
            done += len(output)
    return scores


def predict(net: Module, images: Any, *, batch_size: int = 256) -> np.ndarray:
    """The class of each image.

    Parameters
    ----------
    net : Module
        Its output is (N, classes).
    images : (N, C, H, W) array, (N, H, W) uint8 array or Dataset
        uint8 pixels are divided by 255, as in :func:`fit`.
    batch_size : int
        Images at a time.

    Returns
    -------
    (N,) int64 array
        Index of the largest output; the first of equals.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> net = nn.lenet(seed=0)
    >>> nn.predict(net, np.zeros((3, 28, 28), np.uint8)).shape
    (3,)
    """
    return _scores(net, images, batch_size).argmax(axis=1)


def probabilities(net: Module, images: Any, *, batch_size: int = 256) -> np.ndarray:
    """The softmax of the network's output for each image.

    Parameters
    ----------
    net, images, batch_size
        As in :func:`predict`.

    Returns
    -------
    (N, classes) array
        Rows that sum to one.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> p = nn.probabilities(nn.lenet(seed=0), np.zeros((3, 28, 28), np.uint8))
    >>> p.shape, bool(np.allclose(p.sum(axis=1), 1))
    ((3, 10), True)
    """
    scores = _scores(net, images, batch_size)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


class _Interrupts:
    """Holds Ctrl-C back while a step or a checkpoint is half done.

    A second Ctrl-C is not held back. Where Python's own handler is not in place (another
    thread, an application with its own), signals are left alone.
    """

    def __init__(self) -> None:
        self.pending = False
        self._depth = 0
        self._installed = False

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread() and (
            signal.getsignal(signal.SIGINT) is signal.default_int_handler
        ):
            signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, *exc: object) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _handle(self, signum: int, frame: object) -> None:
        if self._depth and not self.pending:
            self.pending = True
        else:
            raise KeyboardInterrupt

    def hold(self) -> None:
        self._depth += 1

    def release(self) -> None:
        """End of :meth:`hold`; a Ctrl-C held back comes through now."""
        self._depth -= 1
        if self.pending and not self._depth:
            self.pending = False
            raise KeyboardInterrupt


def _restore(
    found: Checkpoint, path: Any, net: Module, optimizer: Optimizer, settings: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Put a checkpoint's state into `net` and `optimizer`; the run's own state is returned."""
    run = found.run
    if run is None:
        raise ValueError(f"resume: {path} holds weights, not a training run to continue")
    for name, value in settings.items():
        if run["settings"][name] != value:
            raise ValueError(
                f"resume: {path} was written with {name}={run['settings'][name]!r}, "
                f"got {name}={value!r}; a run continues only with the same"
            )
    if found.optimizer["name"] != type(optimizer).__name__:
        raise ValueError(
            f"resume: {path} was written with optimizer {found.optimizer['name']}, "
            f"got {type(optimizer).__name__}"
        )
    net.load_state_dict(found.weights)
    optimizer.load_state_dict(found.optimizer)
    return run


def fit(
    net: Module,
    data: Any,
    *,
    epochs: int,
    batch_size: int = 256,
    lr: float | None = None,
    optimizer: Optimizer | None = None,
    loss: Loss | None = None,
    seed: int | None = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    validation: Any = None,
    callbacks: Iterable[Any] = (),
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    resume: str | os.PathLike | bool | None = None,
    meta: Mapping[str, Any] | None = None,
) -> History:
    """Train a network with mini-batch gradient descent.

    Parameters
    ----------
    net : Module
        Trained in place.
    data : Dataset or pair (inputs, targets)
        Inputs (N, C, H, W) in any real dtype, targets (N,) class numbers. uint8 inputs are
        pixels: they are divided by 255, and (N, H, W) gets its channel axis; they stay uint8
        in memory and are converted batch by batch.
    epochs : int
        Passes over the data, those of a resumed run included.
    batch_size : int
    lr : float, optional
        Learning rate of plain :class:`SGD` when there is no `optimizer`; default 0.1.
    optimizer : Optimizer, optional
        Over the network's parameters.
    loss : Loss, optional
        Default :class:`CrossEntropyLoss`. It has to be a mean over the batch.
    seed : int or None
        Fixes the order of the images; None is another order each time. A resumed run takes
        the state of the generator from the checkpoint instead.
    shuffle : bool
        Whether each epoch has a new random order.
    drop_last : bool
        Whether an incomplete last batch is left out.
    validation : Dataset or pair, optional
        Evaluated after each epoch: the test columns of the history.
    callbacks : iterable of Callback
        Objects with some of the methods of :class:`Callback`, called in order.
    checkpoint : path, optional
        ``.npz`` file, replaced in one go after each epoch and when the run is interrupted.
    checkpoint_every : int, optional
        Also write it each time this many steps of an epoch are done.
    resume : path or True, optional
        Checkpoint to continue; True means `checkpoint` itself. The data, `batch_size`,
        `shuffle`, `drop_last` and kind of optimiser have to be those of the checkpoint; the
        optimiser's state and settings (learning rate included) are taken from it. The result
        has the same bits as a run that was never interrupted.
    meta : mapping, optional
        Anything JSON can hold, kept in the checkpoint (``Checkpoint.meta``): how to build the
        network again, say.

    Returns
    -------
    History

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C. The step at hand is finished first, the checkpoint is written, and the
        message says where; `net` holds the weights of the last finished step.
    FloatingPointError
        When the loss is no longer finite. The checkpoint, if any, is from before.
    FileNotFoundError, ValueError
        When the file to resume from is missing, damaged or from another run.

    Notes
    -----
    The memory of a step's intermediate results is used again by the next step, once nothing
    else refers to it. It is given back at the end.

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((64, 1, 4, 4), dtype=np.float32)
    >>> y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, rng=0))
    >>> history = nn.fit(net, (x, y), epochs=30, batch_size=16, lr=0.5, validation=(x, y))
    >>> history.final.test_accuracy > 0.9
    True
    """
    samples = _as_samples(net, data, "data")
    if validation is not None:
        _as_samples(net, validation, "validation")
    epochs = _positive(epochs, "epochs", least=0)
    if seed is not None:
        seed = _positive(seed, "seed", least=0)
    batch_size = _positive(batch_size, "batch_size")
    if checkpoint_every is not None:
        checkpoint_every = _positive(checkpoint_every, "checkpoint_every")
        if checkpoint is None:
            raise ValueError("checkpoint_every: needs checkpoint=, the file to write; got None")
    if optimizer is None:
        optimizer = SGD(net.parameters(), lr=0.1 if lr is None else lr)
    elif lr is not None:
        raise ValueError(f"lr: the optimizer has its own ({optimizer.lr}); got lr={lr} as well")
    if resume is True:
        if checkpoint is None:
            raise ValueError("resume: True needs checkpoint=, the file to continue; got None")
        resume = checkpoint
    loss = CrossEntropyLoss() if loss is None else loss
    if getattr(loss, "reduction", "mean") != "mean":
        raise ValueError(f"loss: expected reduction 'mean', got {loss.reduction!r}")
    steps, rest = divmod(len(samples), batch_size)
    if rest and not drop_last:
        steps += 1
    if not steps:
        raise ValueError(
            f"batch_size: {batch_size} is more than the {len(samples)} samples, "
            "and drop_last=True leaves no batch"
        )
    callbacks = list(callbacks)
    settings = {
        "batch_size": batch_size,
        "samples": len(samples),
        "shuffle": bool(shuffle),
        "drop_last": bool(drop_last),
    }
    rng = np.random.Generator(np.random.PCG64(seed))
    state = TrainState(net, optimizer, History(), epochs, steps, len(samples))
    if not loss.takes_classes:
        state.correct = None
    if resume:
        found = load_checkpoint(resume)
        run = _restore(found, resume, net, optimizer, settings)
        state.history = History.from_dict(run["history"])
        for name, value in run["progress"].items():
            setattr(state, name, value)
        rng.bit_generator.state = run["rng"]
        state.resumed = True
        meta = found.meta if meta is None else meta

    loop = _Loop(samples, loss, validation, batch_size, rng, shuffle, callbacks, state)
    save = None
    if checkpoint is not None:

        def save() -> None:
            save_checkpoint(
                checkpoint, net, optimizer, run={"settings": settings, **loop.run()}, meta=meta
            )

    modes = [(module, module.training) for module in net.modules()]
    net.train()
    try:
        loop.go(save, checkpoint_every)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(loop.interrupted(checkpoint)) from error
    finally:
        for module, training in modes:
            module.training = training
        net.release()
    return state.history


class _Loop:
    """One run of :func:`fit`."""

    def __init__(
        self,
        samples: _Samples,
        loss: Loss,
        validation: Any,
        batch_size: int,
        rng: np.random.Generator,
        shuffle: bool,
        callbacks: list[Any],
        state: TrainState,
    ) -> None:
        self.samples, self.loss, self.validation = samples, loss, validation
        self.batch_size, self.rng, self.shuffle = batch_size, rng, shuffle
        self.callbacks, self.state = callbacks, state
        self.workspace = Workspace()
        self.epoch_rng = rng.bit_generator.state  # before this epoch's order was drawn
        self.whole = True  # False within a step: the weights may be half updated
        self.saved = False  # whether the file holds the state at the interruption

    def run(self) -> dict[str, Any]:
        """The run's state between two steps, for the checkpoint."""
        state = self.state
        progress = ("epoch", "step", "images", "loss_sum", "correct", "seconds")
        return {
            "progress": {name: getattr(state, name) for name in progress},
            "rng": self.epoch_rng,
            "history": state.history.as_dict(),
        }

    def call(self, event: str) -> None:
        for callback in self.callbacks:
            method = getattr(callback, event, None)
            if method is not None:
                method(self.state)

    def go(self, save: Any, every: int | None) -> None:
        state = self.state
        with _Interrupts() as interrupts:

            def write() -> None:
                if save is not None:
                    interrupts.hold()
                    save()
                    interrupts.release()

            try:
                self.call("on_fit_start")
                while state.epoch <= state.epochs and not state.stop:
                    self.epoch(interrupts, write, every)
                    write()
                self.call("on_fit_end")
            except KeyboardInterrupt:
                if self.whole and save is not None:
                    interrupts.hold()
                    save()
                    self.saved = True
                raise

    def epoch(self, interrupts: _Interrupts, write: Any, every: int | None) -> None:
        """What is left of the current epoch."""
        state, samples, rng = self.state, self.samples, self.rng
        self.epoch_rng = rng.bit_generator.state
        order = rng.permutation(len(samples)) if self.shuffle else np.arange(len(samples))
        self.call("on_epoch_start")
        while state.step < state.steps and not state.stop:
            interrupts.hold()
            self.whole = False
            self.step(order[state.step * self.batch_size :][: self.batch_size])
            self.whole = True
            interrupts.release()
            self.call("on_batch")
            if every is not None and state.step % every == 0 and state.step < state.steps:
                write()
        result = None
        if self.validation is not None:
            result = evaluate(
                state.net, self.validation, batch_size=self.batch_size, loss=self.loss
            )
        record = EpochRecord(
            state.epoch,
            state.mean_loss,
            state.accuracy,
            None if result is None else result.loss,
            None if result is None else result.accuracy,
            state.seconds,
            state.images_per_second,
        )
        interrupts.hold()
        state.history.epochs.append(record)
        self.epoch_rng = rng.bit_generator.state
        try:
            self.call("on_epoch")
        finally:
            state.epoch += 1
            state.step = state.images = 0
            state.loss_sum = state.seconds = 0.0
            state.correct = None if state.correct is None else 0
            interrupts.release()

    def step(self, index: np.ndarray) -> None:
        """One mini-batch: forward, backward, update."""
        state, net, loss = self.state, self.state.net, self.loss
        started = time.perf_counter()
        self.workspace.next_step()
        x, targets = self.samples.batch(index, self.workspace)
        net.zero_grad()
        output = net(x)
        value = loss(output, targets)
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss is {value} at epoch {state.epoch}, step {state.step + 1} "
                f"(learning rate {state.optimizer.lr}): a smaller rate may help"
            )
        net.backward(loss.backward(), need_input_grad=False)
        state.optimizer.step()
        if state.correct is not None:
            state.correct += int(np.count_nonzero(output.argmax(axis=1) == targets))
        state.loss = value
        state.loss_sum += value * len(index)
        state.history.batch_losses.append(value)
        state.images += len(index)
        state.step += 1
        state.seconds += time.perf_counter() - started

    def interrupted(self, checkpoint: Any) -> str:
        """What to tell whoever interrupted the run."""
        state = self.state
        where = f"interrupted at epoch {state.epoch}, step {state.step} of {state.steps}"
        if checkpoint is None:
            return f"{where}; no checkpoint was asked for"
        if self.saved:
            return f"{where}; checkpoint written to {os.fspath(checkpoint)}"
        if Path(checkpoint).exists():
            return f"{where}; {os.fspath(checkpoint)} is from before"
        return f"{where}; no checkpoint was written"
