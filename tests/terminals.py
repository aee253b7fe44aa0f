"""A terminal for tests: a program runs in it, keys are pressed, and what it shows is read as a person would."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time

import pyte

PATIENCE = 30

# The leader of a session gets the terminal that it opens first for its own. `exec` keeps the number of the process.
_IN_TERMINAL = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for number in range(3):
    os.dup2(terminal, number)
if terminal > 2:
    os.close(terminal)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Terminal:
    """A terminal of a size, and a program in it."""

    def __init__(self, command, *, columns=80, lines=24, cwd=None, **environment):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.output = b""
        self.ours, theirs = os.openpty()
        self._set_size(columns, lines)
        self.before = termios.tcgetattr(self.ours)
        environment = {
            "TERM": "xterm-256color",
            **{k: v for k, v in os.environ.items() if k != "NO_COLOR"},
            **environment,
        }
        self.program = subprocess.Popen(
            [sys.executable, "-S", "-c", _IN_TERMINAL, os.ttyname(theirs), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=cwd,
            env={**environment, "TERM": environment["TERM"]},
        )
        # Until the program has it open, a reader would find nobody there.
        self.theirs = theirs

    def _set_size(self, columns, lines):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns, lines):
        self.screen.resize(lines, columns)
        self.screen.reset()
        self._set_size(columns, lines)

    def press(self, keys):
        os.write(self.ours, keys.encode())

    def read(self, seconds):
        """Takes in what is written within so many seconds."""
        ready, _, _ = select.select([self.ours], [], [], seconds)
        if not ready:
            return False
        data = os.read(self.ours, 65536)
        self.output += data
        self.stream.feed(data)
        return True

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def wait_for(self, *words, without=()):
        """Until the screen has all of the words, and none of the others; returns its text."""
        deadline = time.monotonic() + PATIENCE
        while True:
            text = self.text
            if all(word in text for word in words) and not any(word in text for word in without):
                return text
            left = deadline - time.monotonic()
            assert left > 0, f"not seen: {words}, without {without}\n{text}\n{self.program.poll()}"
            self.read(min(left, 1))

    def end(self):
        """Waits for the program's end, takes in its last words, and returns how it ended."""
        deadline = time.monotonic() + PATIENCE
        while self.program.poll() is None:
            assert time.monotonic() < deadline, f"it does not end\n{self.text}"
            self.read(0.05)
        while self.read(0):
            pass
        return self.program.returncode

    def is_as_before(self):
        """Whether the terminal is in the mode that it was in."""
        return (
            termios.tcgetattr(self.ours) == self.before and b"\x1b[?1049l" in self.output.rpartition(b"\x1b[?1049h")[2]
        )

    def close(self):
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait()
        for end in (self.ours, self.theirs):
            with contextlib.suppress(OSError):
                os.close(end)
