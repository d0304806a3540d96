"""Exit with 1 unless a repaired wheel is what it has to be: python .ci/check_repaired.py WHEEL"""

import sys
import zipfile
from pathlib import Path

LIMIT = 1_200_000

path = Path(sys.argv[1])
with zipfile.ZipFile(path) as wheel:
    names = wheel.namelist()
modules = [n for n in names if n.endswith(".so") and n.startswith("fastconv/")]
problems = [
    problem
    for problem, wrong in {
        "the tag is not cp311-abi3-manylinux": "-cp311-abi3-manylinux" not in path.name,
        f"{path.stat().st_size} bytes, not under {LIMIT}": path.stat().st_size >= LIMIT,
        f"extension modules: {modules}": len(modules) != 4
        or not all(n.endswith(".abi3.so") for n in modules),
        "no OpenMP runtime inside": not any("libgomp" in n or "libomp" in n for n in names),
        "no py.typed": "fastconv/py.typed" not in names,
        "no stubs": "fastconv/backends/native/_conv.pyi" not in names,
        "sources inside": any(n.endswith((".pyx", ".pxd", ".c", ".h")) for n in names),
        "no licence": not any(n.endswith("licenses/LICENSE") for n in names),
        "tests or benchmarks inside": any(n.startswith(("tests/", "bench/")) for n in names),
    }.items()
    if wrong
]
if problems:
    sys.exit(f"{path.name}: " + "; ".join(problems))
print(f"{path.name}: {path.stat().st_size} bytes, its OpenMP runtime inside")
