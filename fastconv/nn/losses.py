"""Losses: call one for the value, then ``backward()`` for the gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

__all__ = ["CrossEntropyLoss", "Loss", "MSELoss"]


class Loss(ABC):
    """A number that says how far an output is from its target.

    Attributes
    ----------
    reduction : str
        "mean" or "sum" over the batch (for :class:`MSELoss` over all elements).
    takes_classes : bool
        Whether targets are class numbers, so that an accuracy can be counted.
    """

    takes_classes = False

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction: expected 'mean' or 'sum', got {reduction!r}")
        self.reduction = reduction
        self._saved: Any = None

    def __call__(self, output: np.ndarray, target: Any) -> float:
        """The loss; what :meth:`backward` needs is kept."""
        return self.forward(output, target)

    @abstractmethod
    def forward(self, output: np.ndarray, target: Any) -> float:
        """The loss of `output`."""

    @abstractmethod
    def backward(self) -> np.ndarray:
        """The gradient of the last loss with respect to its output, in a new array."""

    def _kept(self) -> Any:
        if self._saved is None:
            raise RuntimeError(f"backward: call {type(self).__name__} on an output first")
        return self._saved

    def __repr__(self) -> str:
        return f"{type(self).__name__}(reduction={self.reduction!r})"


class CrossEntropyLoss(Loss):
    r"""Softmax and negative log-likelihood in one, as ``torch.nn.CrossEntropyLoss``.

    .. math::
        \ell_i = \log \sum_j e^{z_{ij} - m_i} - (z_{i y_i} - m_i), \quad m_i = \max_j z_{ij}

    and the gradient is :math:`\mathrm{softmax}(z)_{ij} - [j = y_i]`, divided by N for the mean.
    Subtracting the maximum keeps the exponentials from overflowing.

    Parameters
    ----------
    reduction : {"mean", "sum"}

    References
    ----------
    Zhang et al., Dive into Deep Learning, section "Softmax Regression".

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> loss = nn.CrossEntropyLoss()
    >>> round(loss(np.zeros((2, 4)), [0, 3]), 4)      # log(4)
    1.3863
    >>> loss.backward()[0]
    array([-0.375,  0.125,  0.125,  0.125])
    """

    takes_classes = True

    def forward(self, output: np.ndarray, target: Any) -> float:
        """The loss.

        Parameters
        ----------
        output : (N, classes) array
            Unnormalised scores.
        target : (N,) integers
            Classes, at least 0 and below `classes`.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            When shapes or types do not fit or a class does not exist.
        """
        output, target = np.asarray(output), np.asarray(target)
        if output.ndim != 2 or 0 in output.shape:
            raise ValueError(f"output: expected shape (N, classes), got {output.shape}")
        if output.dtype.kind != "f":
            raise TypeError(f"output: expected floating point, got dtype {output.dtype}")
        samples, classes = output.shape
        if target.shape != (samples,):
            raise ValueError(f"target: expected shape ({samples},), got {target.shape}")
        if target.dtype.kind not in "iu":
            raise TypeError(f"target: expected integer classes, got dtype {target.dtype}")
        if target.min() < 0 or target.max() >= classes:
            wrong = int(np.flatnonzero((target < 0) | (target >= classes))[0])
            raise ValueError(
                f"target: expected classes 0 to {classes - 1}, "
                f"got {int(target[wrong])} at position {wrong}"
            )
        # Flat positions are found once, and serve the loss and its gradient.
        chosen = np.arange(0, samples * classes, classes)
        chosen += target.astype(np.intp)
        exponentials = np.subtract(output, output.max(axis=1, keepdims=True), order="C")
        total = exponentials.ravel()[chosen].sum(dtype=np.float64)
        np.exp(exponentials, out=exponentials)
        sums = exponentials.sum(axis=1, keepdims=True)
        self._saved = exponentials, sums, chosen
        total = float(np.log(sums).sum(dtype=np.float64) - total)
        return total / samples if self.reduction == "mean" else total

    def backward(self) -> np.ndarray:
        """The gradient of the last loss.

        Returns
        -------
        (N, classes) array

        Raises
        ------
        RuntimeError
            When no loss was computed yet.
        """
        exponentials, sums, chosen = self._kept()
        if self.reduction == "mean":
            gradient = exponentials / (sums * len(sums))
            gradient.ravel()[chosen] -= 1 / len(sums)
        else:
            gradient = exponentials / sums
            gradient.ravel()[chosen] -= 1
        return gradient


class MSELoss(Loss):
    r"""Mean squared error, as ``torch.nn.MSELoss``.

    .. math:: \ell = \frac{1}{n} \sum_i (y_i - t_i)^2, \qquad
              \frac{\partial \ell}{\partial y_i} = \frac{2}{n} (y_i - t_i)

    over all n elements; without the 1/n when `reduction` is "sum".

    Parameters
    ----------
    reduction : {"mean", "sum"}

    Examples
    --------
    >>> import numpy as np
    >>> from fastconv import nn
    >>> loss = nn.MSELoss()
    >>> loss(np.array([1.0, 2.0]), [0.0, 4.0])
    2.5
    >>> loss.backward()
    array([ 1., -2.])
    """

    def forward(self, output: np.ndarray, target: Any) -> float:
        """The loss.

        Parameters
        ----------
        output : array
        target : array of the same shape

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            When shapes or types do not fit.
        """
        output, target = np.asarray(output), np.asarray(target)
        if output.dtype.kind != "f":
            raise TypeError(f"output: expected floating point, got dtype {output.dtype}")
        if target.shape != output.shape:
            raise ValueError(f"target: expected shape {output.shape}, got {target.shape}")
        if not output.size:
            raise ValueError(f"output: expected at least one element, got shape {output.shape}")
        difference = np.subtract(output, target, dtype=output.dtype, casting="same_kind")
        self._saved = difference
        flat = difference.ravel()
        total = float(np.vdot(flat, flat))
        return total / flat.size if self.reduction == "mean" else total

    def backward(self) -> np.ndarray:
        """The gradient of the last loss.

        Returns
        -------
        array of the output's shape

        Raises
        ------
        RuntimeError
            When no loss was computed yet.
        """
        difference = self._kept()
        return difference * (2 / difference.size if self.reduction == "mean" else 2)
