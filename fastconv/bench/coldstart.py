"""Cold starts: size on disk, time to import, time to the first convolution, of us and the peers.

Each is measured in fresh interpreters, in turn. A process says at what time it had imported NumPy,
then the library, then computed a first convolution, so what Python and NumPy need by themselves is
known and taken off. The first process of each, which may find no file in the page cache, is thrown
away: these are not the first starts after the machine was booted.
"""

from __future__ import annotations

import base64
import os
import statistics
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import fastconv as fc
from fastconv.bench import contenders
from fastconv.bench.peers import module as peer_module
from fastconv.bench.table import numbers

__all__ = ["measure", "megabytes"]

INPUT, WEIGHT = (1, 3, 32, 32), (16, 3, 3, 3)
WHAT = "(1, 3, 32, 32) -> 16, 3x3, float32"

# module -> (imports, the convolution of x and w as y)
CODE = {
    "fastconv": ("import fastconv", "y = fastconv.conv2d(x, w)"),
    "torch": (
        "import torch",
        "y = torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()",
    ),
    "onnxruntime": (
        "import onnxruntime",
        "session = onnxruntime.InferenceSession(MODEL)\ny = session.run(None, {'x': x, 'w': w})[0]",
    ),
    "cv2": (
        "import cv2",
        # it has no convolution of several channels outside its networks: sums of single planes
        "y = np.stack([sum(cv2.filter2D(a, -1, k)[1:-1, 1:-1] "
        "for a, k in zip(x[0], v, strict=True)) for v in w])[None]",
    ),
    "scipy": (
        "from scipy.signal import correlate",
        "y = np.stack([correlate(x[0], v, 'valid')[0] for v in w])[None]",
    ),
    "tensorflow": (
        "import tensorflow",
        "y = tensorflow.nn.conv2d(x.transpose(0, 2, 3, 1), w.transpose(2, 3, 1, 0), 1, 'VALID')"
        ".numpy().transpose(0, 3, 1, 2)",
    ),
}

CHILD = """
import sys, time
import numpy as np
x = np.linspace(-1, 1, {x}, dtype=np.float32).reshape({input})
w = np.linspace(-1, 1, {w}, dtype=np.float32).reshape({weight})
started = time.time()
{imports}
imported = time.time()
{convolution}
done = time.time()
windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
np.testing.assert_allclose(y, np.einsum("nchwrs,kcrs->nkhw", windows, w), rtol=0, atol=1e-4)
print()  # whatever a library printed before ends here
print(started, imported, done)
"""


def _folder(module: str) -> Path:
    """Where a package lies."""
    return Path(find_spec(module).submodule_search_locations[0])


def megabytes(module: str) -> float:
    """Size of the distribution that has a module, its own files only, in megabytes (10**6 bytes).

    What it requires is not counted, nor are byte-compiled files. A package used from its source
    tree counts with its folder.

    Examples
    --------
    >>> 0.1 < megabytes("fastconv") < 30
    True
    """
    folder = _folder(module)
    sizes = {}
    for name in dict.fromkeys(metadata.packages_distributions().get(module, ())):
        for file in metadata.distribution(name).files or ():
            path = Path(file.locate())
            if path.suffix != ".pyc" and path.is_file():
                sizes[path.resolve()] = path.stat().st_size
    if (folder / "__init__.py").resolve() not in sizes:
        files = (p for p in folder.rglob("*") if p.suffix != ".pyc" and p.is_file())
        sizes = {p: p.stat().st_size for p in files}
    return sum(sizes.values()) / 1e6


def _start(module: str, environment: dict) -> tuple[float, float, float]:
    """Seconds from the start of a process until NumPy, the library, the first result were there."""
    imports, convolution = CODE[module]
    if module == "onnxruntime":
        node = ("Conv", ["x", "w"], ["y"], {})
        model = peer_module("onnxruntime").model
        made = model([node], {"x": INPUT, "w": WEIGHT}, {"y": ("float32", 4)})
        text = base64.b64encode(made).decode()
        imports = f"import base64\nMODEL = base64.b64decode('{text}')\n{imports}"
    code = CHILD.format(
        x=3 * 32 * 32, w=16 * 27, input=INPUT, weight=WEIGHT,
        imports=imports, convolution=convolution,
    )  # fmt: skip
    before = time.time()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise RuntimeError(f"cold start of {module}: {last}")
    return tuple(float(text) - before for text in done.stdout.splitlines()[-1].split())


def measure(peers=None, rounds: int = 5, progress=None) -> dict:
    """Measure the cold starts of fastconv and of the installed peers.

    Parameters
    ----------
    peers : set of str, optional
        Names of peers, see `run.select_peers`; default: all that are installed.
    rounds : int
        Processes of each.
    progress : callable, optional
        Given a line before each process.

    Returns
    -------
    dict
        "what" was computed, "rounds", "start_seconds" (Python and NumPy alone, already taken off),
        and "rows" with "name", "version", "megabytes", "import_seconds", "first_seconds" (importing
        included).

    Raises
    ------
    RuntimeError
        When a library fails or computes something else.

    Examples
    --------
    >>> found = measure(peers=set(), rounds=1)
    >>> [row["name"] for row in found["rows"]], found["rounds"]
    (['fastconv'], 1)
    """
    installed = contenders.present()
    libraries = {"fastconv": ("fastconv", fc.__version__)}
    for module, (name, _) in contenders.PEERS.items():
        if module == "onnxruntime" and not find_spec("onnx"):
            continue
        if module in CODE and name in installed and (peers is None or name in peers):
            libraries[module] = (name, installed[name])
    # the children have to find this very fastconv
    search = [str(Path(fc.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, search))}
    # installed packages are byte-compiled; the first process does that for one in its source tree
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    times = {module: [] for module in libraries}
    for number in range(rounds + 1):
        for module, (name, _) in libraries.items():
            if progress is not None:
                progress(f"[{number}/{rounds}] cold start of {name}")
            found = _start(module, environment)
            if number:
                times[module].append(found)
    rows = [
        {
            "name": name,
            "version": version,
            "megabytes": megabytes(module),
            "import_seconds": statistics.median(b - a for a, b, _ in times[module]),
            "first_seconds": statistics.median(c - a for a, _, c in times[module]),
        }
        for module, (name, version) in libraries.items()
    ]
    started = statistics.median(start for found in times.values() for start, _, _ in found)
    return numbers({"what": WHAT, "rounds": rounds, "start_seconds": started, "rows": rows})
