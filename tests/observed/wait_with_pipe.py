"""A parent waits for the end of a program whose output it does not read."""

import subprocess
import sys

program = subprocess.Popen([sys.executable, "-c", "print('x' * 1_000_000)"], stdout=subprocess.PIPE)
program.wait()
print(len(program.stdout.read()))
