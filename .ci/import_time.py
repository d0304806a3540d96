"""Print how long `import fastconv` takes beyond `import numpy`: median of several processes."""

import statistics
import subprocess
import sys

CODE = """
import time
import numpy
start = time.perf_counter()
import fastconv
print(1e3 * (time.perf_counter() - start))
"""

times = [
    float(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True).stdout)
    for _ in range(9)
]
print(f"import fastconv adds {statistics.median(times):.1f} ms to import numpy (bar: 30 ms)")
