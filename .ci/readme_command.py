"""Print the README's fenced bash block of this number (1 or 2): python .ci/readme_command.py 2"""

import re
import sys
from pathlib import Path

text = (Path(__file__).parent.parent / "README.md").read_text()
blocks = re.findall(r"^```bash\n(.*?)^```", text, re.S | re.M)
print(blocks[int(sys.argv[1]) - 1], end="")
