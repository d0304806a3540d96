"""Weights and training runs in files: ``.npz`` without pickle, so reading one runs no code.

A checkpoint holds ``weights/<name>`` arrays, ``optimizer/<name>`` arrays and ``header``, a JSON
text with everything that is not an array. It is written beside its place and renamed, so that
the file at the path is whole at any time.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .layers import Module
    from .optim import Optimizer

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

_FORMAT = "fastconv-checkpoint"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What :func:`load_checkpoint` read.

    Attributes
    ----------
    weights : dict of str to array
        For ``net.load_state_dict``.
    optimizer : dict or None
        For ``optimizer.load_state_dict``; its ``"name"`` is the class.
    run : dict or None
        Where :func:`fastconv.nn.fit` stood.
    meta : dict
        What the writer added.
    """

    weights: dict[str, np.ndarray]
    optimizer: dict[str, Any] | None
    run: dict[str, Any] | None
    meta: dict[str, Any]


def save_checkpoint(
    path: str | os.PathLike,
    net: Module,
    optimizer: Optimizer | None = None,
    *,
    run: Mapping[str, Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write a network's weights, and what else a training run needs, in one go.

    Parameters
    ----------
    path : path
        Replaced where it exists; its folder has to exist. Nothing is appended to the name.
    net : Module
    optimizer : Optimizer, optional
    run : mapping, optional
        State of a training run, for JSON.
    meta : mapping, optional
        Anything JSON can hold.

    Raises
    ------
    OSError
        When the file cannot be written; one that was there is as before.
    TypeError
        When `meta` is not for JSON.

    Examples
    --------
    >>> import os, tempfile
    >>> from fastconv import nn
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "lenet.npz")
    ...     nn.save_checkpoint(path, nn.lenet(seed=0), meta={"model": "lenet"})
    ...     found = nn.load_checkpoint(path)
    >>> found.meta, len(found.weights)
    ({'model': 'lenet'}, 10)
    """
    arrays = {f"weights/{name}": value for name, value in net.state_dict().items()}
    header: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "optimizer": None,
        "run": run,
        "meta": dict(meta or {}),
    }
    if optimizer is not None:
        header["optimizer"] = {}
        for name, value in optimizer.state_dict().items():
            if isinstance(value, np.ndarray):
                arrays[f"optimizer/{name}"] = value
            else:
                header["optimizer"][name] = value
    try:
        text = json.dumps(header)
    except TypeError as error:
        raise TypeError(f"meta: expected what JSON can hold; {error}") from None
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            np.savez(file, header=np.array(text.encode()), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def load_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Read what :func:`save_checkpoint` or :func:`fastconv.nn.fit` wrote.

    Parameters
    ----------
    path : path

    Returns
    -------
    Checkpoint

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is damaged, or not a checkpoint.
    """
    damaged = f"{os.fspath(path)} is not a whole fastconv checkpoint"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").item())
        if header["format"] != _FORMAT:
            raise ValueError(f"{damaged}: its format is {header['format']!r}")
    except OSError:
        raise
    except (zipfile.BadZipFile, EOFError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{damaged}: {error}") from error
    except ValueError as error:
        message = str(error)
        raise ValueError(message if damaged in message else f"{damaged}: {message}") from error
    if header["version"] > _VERSION:
        raise ValueError(
            f"{os.fspath(path)} is a checkpoint of version {header['version']}, "
            f"this fastconv reads up to {_VERSION}"
        )
    weights, state = {}, {}
    for name, value in arrays.items():
        kind, _, key = name.partition("/")
        if kind == "weights":
            weights[key] = value
        else:
            state[key] = value
    optimizer = header["optimizer"]
    if optimizer is not None:
        optimizer = {**optimizer, **state}
    return Checkpoint(weights, optimizer, header["run"], header["meta"])
