"""Builds the extension modules; everything declarative stands in pyproject.toml."""

import os
import re
import shlex
import sys
from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

# CPython 3.11's limited API: one abi3 wheel for every later one
LIMITED_API, WHEEL_TAG = ("Py_LIMITED_API", "0x030B0000"), "cp311"
NATIVE = "fastconv.backends.native."

# Contraction fuses the tiles' mul + add; predictive commoning keeps row values in registers that
# the tiles need.  -O2: kernels ask for their unrolling themselves, and -O3 makes the wheel a tenth
# larger, not faster.
COMPILE = ["-std=gnu11", "-O2", "-g0", "-ffp-contract=fast", "-fvisibility=hidden"]
if sys.platform == "darwin":  # Apple's clang ships no OpenMP: kernels run on one thread there
    OPENMP, SPARINGLY = [], []
else:
    OPENMP = ["-fopenmp"]
    SPARINGLY = ["--param=max-inline-insns-single=14", "--param=max-inline-insns-auto=5"]
    SPARINGLY += ["-fno-tree-pre", "-fno-align-functions", "-fno-align-loops", "-fno-align-jumps"]
    COMPILE += ["-fno-predictive-commoning", "-fno-math-errno"]
    # for the linker to drop what nobody calls; nothing here unwinds
    COMPILE += ["-ffunction-sections", "-fdata-sections", "-fno-asynchronous-unwind-tables"]
LINK = [] if sys.platform == "darwin" else ["-Wl,--gc-sections", "-Wl,-s"]

# For developers: FASTCONV_SANITIZE=1 builds everything under the address and undefined-behaviour
# sanitizers; FASTCONV_CFLAGS adds flags.
if os.environ.get("FASTCONV_SANITIZE") == "1":
    flags = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
    COMPILE += [*flags, "-O1", "-g1"]
    LINK = flags
COMPILE += shlex.split(os.environ.get("FASTCONV_CFLAGS", ""))


# every wheel carries the page: without the benchmark's folded tables, which are most of it
PAGE = re.sub("(?s)<details>.*?</details>\n*", "", Path("README.md").read_text("utf-8"))


def pyx(name):
    return f"fastconv/backends/native/{name}.pyx"


def extension(name, sources, *flags):
    return Extension(
        NATIVE + name,
        sources,
        include_dirs=["csrc"],
        depends=glob("csrc/**/*.[ch]", recursive=True)
        + glob("fastconv/**/*.px[di]", recursive=True),
        define_macros=[LIMITED_API, ("CYTHON_LIMITED_API", "1")],
        py_limited_api=True,
        extra_compile_args=[*COMPILE, *flags, *OPENMP],
        extra_link_args=LINK + OPENMP,
    )


setup(
    long_description=PAGE,
    long_description_content_type="text/markdown",
    ext_modules=cythonize(
        [
            # the only one that links csrc/: the others cimport its table, so that there is one
            extension("_dispatch", [pyx("_dispatch"), *sorted(glob("csrc/*.c"))]),
            # few drivers gain from being inlined, or aligned: a fifth smaller, as fast
            extension("_conv", [pyx("_conv")], *SPARINGLY),
            # loops over planes alone: a third smaller, as fast
            extension("_planes", [pyx("_planes")], "-Os"),
            # Cython's own runtime, once instead of in each of them: 60 kB of the wheel
            extension("_shared", [], "-Os"),
        ],
        shared_utility_qualified_name=NATIVE + "_shared",
        build_dir="build/cython",  # generated C stays out of the tree and of the sdist
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "auto_pickle": False,  # nothing here is worth more than being made again
            "freethreading_compatible": False,
        },
    ),
    # here and not in pyproject.toml, whose [tool.distutils] setuptools warns of
    options={
        "bdist_wheel": {"py_limited_api": WHEEL_TAG},
        "build_ext": {"parallel": os.cpu_count()},
    },
)
