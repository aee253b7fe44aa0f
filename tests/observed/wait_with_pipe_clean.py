"""The parent reads while it waits."""

import subprocess
import sys

program = subprocess.Popen([sys.executable, "-c", "print('x' * 1_000_000)"], stdout=subprocess.PIPE)
print(len(program.communicate()[0]))
