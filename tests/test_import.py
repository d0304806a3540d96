"""`import fastconv` brings in NumPy, its own few modules, and nothing that takes long."""

import subprocess
import sys

import pytest

import fastconv as fc


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


@pytest.fixture(scope="module")
def imported():
    return modules_after("import numpy, fastconv")


@pytest.mark.parametrize(
    "module",
    [
        "numba",
        "torch",
        "matplotlib",
        "scipy",
        "tqdm",
        "PIL",
        "argparse",
        "urllib.request",
        "concurrent.futures",
        "fastconv.nn",
        "fastconv.datasets",
        "fastconv.kernels",
        "fastconv.signal",
        "fastconv.cli",
        "fastconv.backends.native",
        "fastconv.backends.reference",
    ],
)
def test_is_not_imported(imported, module):
    assert module not in imported


def test_nothing_but_the_standard_library_and_numpy(imported):
    with_numpy = modules_after("import numpy")
    new = {name.partition(".")[0] for name in imported - with_numpy}
    assert new <= {"fastconv"} | set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", ["nn", "datasets", "kernels", "signal"])
def test_is_imported_when_used(module):
    assert f"fastconv.{module}" in modules_after(f"import fastconv; fastconv.{module}")


def test_every_public_name_is_there():
    for name in fc.__all__:
        assert getattr(fc, name) is not None
        assert name in dir(fc)


def test_public_names_are_documented():
    for name in fc.__all__:
        if name != "__version__":
            assert getattr(fc, name).__doc__, name
