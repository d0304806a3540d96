"""The libraries that fastconv is measured against, a module each, named as what it imports.

A module may have the functions `convolution`, `pooling`, `training` and `inference`, each from a
problem of that kind to ``{contender's name: function that makes it}``. Making gives a `Made`. It
also has ``threads(n)``, a context in which the library runs on n threads. The library itself is
imported only when a contender is made or a context entered.

To add a peer, add its module here and a line to `PEERS`.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module, metadata

# module -> (name that its contenders begin with, how to install it)
_HOW = "pip install 'fastconv[bench]'"
PEERS = {
    "torch": ("PyTorch", _HOW),
    "onnxruntime": ("ONNX Runtime", _HOW),
    "cv2": ("OpenCV", _HOW),
    "scipy": ("SciPy", _HOW),
    "tensorflow": ("TensorFlow", "pip install 'fastconv[tensorflow]'"),
}


@dataclass
class Made:
    """One way of a peer to compute a problem.

    Attributes
    ----------
    call : callable
    read : callable
        From the call's result to NumPy arrays, as fastconv returns them.
    context : callable
        Makes the with-block that the call runs in.
    slack : float
        Times what a result may be off by.
    """

    call: object
    read: object = lambda result: (result,)
    context: object = nullcontext
    slack: float = 1.0


def pair(value):
    """Two integers in a list, from one or two.

    Examples
    --------
    >>> pair(1), pair((0, 3))
    ([1, 1], [0, 3])
    """
    return list(value) if isinstance(value, tuple) else [value, value]


def module(name):
    """The module of this package for a peer."""
    return import_module(f"{__name__}.{name}")


def version(name):
    """The version of the distribution that a peer's module belongs to.

    Examples
    --------
    >>> version("numpy") == __import__("numpy").__version__
    True
    """
    found = metadata.packages_distributions().get(name, [name])
    return metadata.version(found[0])
