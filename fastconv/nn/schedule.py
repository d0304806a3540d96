"""Learning rates that change during training: callbacks of :func:`fastconv.nn.fit`."""

from __future__ import annotations

import math

from .optim import _number
from .train import Callback, TrainState

__all__ = ["CosineAnnealing"]


class CosineAnnealing(Callback):
    """The learning rate falls along half a cosine, from `lr` at the first step to `least`.

    Step t of T gets ``least + (lr - least) * (1 + cos(pi * t / T)) / 2``, t from 0. The rate
    depends on the step alone, so a resumed run goes on as if it had never been interrupted.

    Parameters
    ----------
    lr : float
        The first learning rate; that of the optimiser is not looked at.
    least : float
        What the rate falls towards.

    Raises
    ------
    TypeError, ValueError
        Unless ``0 <= least <= lr`` and both are finite.

    References
    ----------
    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017,
    arXiv:1608.03983 (without the restarts).

    Examples
    --------
    >>> from fastconv import datasets, nn
    >>> net = nn.lenet("relu", "max", seed=0)
    >>> adam = nn.Adam(net.parameters())
    >>> few = datasets.load("sample", "train").take(200)
    >>> history = nn.fit(net, few, epochs=2, batch_size=50, optimizer=adam,
    ...                  callbacks=[nn.CosineAnnealing(0.004)])
    >>> round(adam.lr, 6)                                   # of the last of 8 steps
    0.000152
    """

    def __init__(self, lr: float, least: float = 0.0) -> None:
        self.lr = _number(lr, "lr")
        self.least = _number(least, "least")
        if self.least > self.lr:
            raise ValueError(f"least: expected at most lr = {self.lr}, got {self.least}")

    def on_epoch_start(self, state: TrainState) -> None:
        self._set(state, (state.epoch - 1) * state.steps + state.step)

    def on_batch(self, state: TrainState) -> None:
        done = (state.epoch - 1) * state.steps + state.step
        if done < state.epochs * state.steps:  # no step comes after the last one
            self._set(state, done)

    def _set(self, state: TrainState, done: int) -> None:
        share = (1 + math.cos(math.pi * done / (state.epochs * state.steps))) / 2
        state.optimizer.lr = self.least + (self.lr - self.least) * share
