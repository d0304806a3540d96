"""What is installed, and what the files that build it promise."""

import re
import shutil
import subprocess
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import fastconv as fc

ROOT = Path(__file__).resolve().parents[1]
in_the_tree = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="these tests stand away from the source tree"
)


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", text)[0].lower() for text in requirements}


def test_numpy_is_the_only_need(project):
    assert project["project"]["dependencies"] == ["numpy>=2"]


def test_extras(project):
    extras = project["project"]["optional-dependencies"]
    assert set(extras) == {"numba", "cuda", "train", "test", "parity", "bench", "all"}
    assert names(extras["train"]) == {"tqdm", "matplotlib", "pillow"}
    # neither CUDA nor the peers come along unasked
    assert extras["all"] == ["fastconv[numba,train,test]"]
    assert "torch" not in names(extras["test"])
    # a backend that is not installed goes untested, and unmeasured
    assert extras["numba"][0] in extras["test"] and extras["numba"][0] in extras["bench"]


def test_the_version_stands_in_one_place(project):
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "fastconv.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", fc.__version__)


def test_the_version_heads_the_changelog():
    if not (ROOT / "CHANGELOG.md").exists():
        pytest.skip("these tests stand away from the source tree")
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heading[1] == fc.__version__


@pytest.mark.parametrize(
    "name", ["py.typed", "data/LICENSE.fashion-mnist", "data/fashion-mnist-sample.idx.xz"]
)
def test_file_of_the_package(name):
    assert (resources.files("fastconv") / name).is_file()


def test_extension_modules_are_abi3():
    for name in ("_conv", "_dispatch", "_planes"):
        module = __import__(f"fastconv.backends.native.{name}", fromlist=[name])
        assert module.__file__.endswith((".abi3.so", ".pyd"))


@pytest.fixture(scope="module")
def installed():
    try:
        return metadata.distribution("fastconv")
    except metadata.PackageNotFoundError:
        pytest.skip("fastconv is used from its tree, not installed")


def test_installed_metadata(installed):
    assert installed.version == fc.__version__
    assert installed.metadata["License-Expression"] == "BSD-3-Clause"
    needed = [text for text in installed.requires or () if "extra ==" not in text]
    assert names(needed) == {"numpy"}


def test_console_script(installed):
    [script] = installed.entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("fastconv", "fastconv.cli:main")
    assert callable(script.load())


@in_the_tree
def test_the_limited_api_in_all_three_places():
    setup = (ROOT / "setup.py").read_text()
    assert '("Py_LIMITED_API", "0x030B0000"), "cp311"' in setup
    assert "define_macros=[LIMITED_API" in setup
    assert "py_limited_api=True" in setup
    assert '"bdist_wheel": {"py_limited_api": WHEEL_TAG}' in setup


@in_the_tree
def test_no_flag_ties_the_build_to_one_machine():
    setup = (ROOT / "setup.py").read_text()
    assert "-march" not in setup and "-ffast-math" not in setup and "-Ofast" not in setup


@in_the_tree
def test_licence():
    text = (ROOT / "LICENSE").read_text()
    assert "BSD 3-Clause" in text.splitlines()[0]
    assert "Redistribution and use in source and binary forms" in text


@in_the_tree
def test_no_generated_files_in_git():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    for name in listed:
        assert not name.endswith((".so", ".o", ".pyc", ".whl")), name
        assert not name.endswith(".c") or name.startswith(("csrc/", "tests/csrc/")), name
