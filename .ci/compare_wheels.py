"""Exit with 1 unless two wheels hold the same files: python .ci/compare_wheels.py A.whl B.whl"""

import sys
import zipfile


def contents(path):
    """CRC of every file by name; RECORD only repeats them."""
    with zipfile.ZipFile(path) as wheel:
        return {i.filename: i.CRC for i in wheel.infolist() if not i.filename.endswith("/RECORD")}


a, b = (contents(path) for path in sys.argv[1:3])
different = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
if different:
    sys.exit("the wheels differ in " + ", ".join(different))
print(f"both wheels hold the same {len(a)} files")
