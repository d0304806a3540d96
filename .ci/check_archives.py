"""Exit with 1 unless an sdist is clean and two wheels hold the same files.

python .ci/check_archives.py SDIST.tar.gz FROM_TREE.whl FROM_SDIST.whl
"""

import sys
import tarfile
import zipfile
from pathlib import PurePosixPath

NEEDED = """
LICENSE MANIFEST.in README.md CHANGELOG.md CONTRIBUTING.md pyproject.toml setup.py
csrc/fastconv.h csrc/README.md csrc/kernels/tile.h fastconv/py.typed
fastconv/backends/native/_conv.pyx fastconv/backends/native/_dispatch.pxd
fastconv/backends/native/_conv.pyi fastconv/data/LICENSE.fashion-mnist tests/conftest.py
fastconv/bench/layers.py
""".split()


def check_sdist(path):
    with tarfile.open(path) as sdist:
        names = {str(PurePosixPath(*PurePosixPath(n).parts[1:])) for n in sdist.getnames()}
    missing = [name for name in NEEDED if name not in names]
    if missing:
        sys.exit(f"the sdist lacks {', '.join(missing)}")
    generated = [
        n for n in names
        if n.endswith((".so", ".o", ".pyc")) or (n.endswith(".c") and n.startswith("fastconv/"))
    ]  # fmt: skip
    if generated:
        sys.exit(f"the sdist holds generated files: {', '.join(generated)}")
    print(f"sdist: {len(names)} files, none of them generated")


def contents(path):
    """CRC of every file by name; RECORD only repeats them."""
    with zipfile.ZipFile(path) as wheel:
        return {i.filename: i.CRC for i in wheel.infolist() if not i.filename.endswith("/RECORD")}


sdist, from_tree, from_sdist = sys.argv[1:4]
check_sdist(sdist)
a, b = contents(from_tree), contents(from_sdist)
different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
if different:
    sys.exit("the wheels from the tree and from the sdist differ in " + ", ".join(different))
print(f"the wheels from the tree and from the sdist hold the same {len(a)} files")
