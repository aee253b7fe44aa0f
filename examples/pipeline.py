"""A pipeline of stages with channels between them, watched by one loop that waits for the first of several things.

    python examples/pipeline.py [--files 400] [--every 0.2] [--for 10] [DIRECTORY]

Stage one walks a directory and sends the paths of Python files. Stage two, a few threads, reads and hashes them. The main thread takes what
comes of it, shows now and then how far it is, and stops everything at a deadline or at Ctrl-C. The channels have room for a few
values each: a fast stage waits for a slow one, and memory stays flat however many files there are.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import sysconfig
from pathlib import Path

import raddle


def find(directory: Path, most: int, paths: raddle.Sender[Path]) -> None:
    """Sends the paths of Python files, so many at most."""
    with paths:
        for number, path in enumerate(directory.rglob("*.py")):
            if number == most:
                break
            paths.send(path)


def read(paths: raddle.Receiver[Path], digests: raddle.Sender[tuple[str, int]]) -> None:
    """Reads what it is told to, and sends `(hash, bytes)`."""
    with digests:
        for path in paths:
            data = path.read_bytes()
            digests.send((hashlib.sha256(data).hexdigest(), len(data)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path, default=Path(sysconfig.get_path("stdlib")))
    parser.add_argument("--files", type=int, default=400, help="how many at most")
    parser.add_argument("--readers", type=int, default=3, help="threads of the second stage")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between two lines of progress")
    parser.add_argument("--for", dest="limit", type=float, default=10, help="seconds after which everything is stopped")
    options = parser.parse_args()
    if not options.directory.is_dir():
        parser.error(f"{options.directory} is not a directory")
    if options.readers < 1 or options.files < 1:
        parser.error("there must be at least one reader and one file")

    files = size = 0
    seen: set[str] = set()
    with raddle.scope(name="pipeline") as scope:
        path_sender, paths = raddle.channel(16)
        digest_sender, digests = raddle.channel(16)
        scope.thread(find, options.directory, options.files, path_sender)
        for _ in range(options.readers):
            scope.thread(read, paths, digest_sender.clone())
        digest_sender.close()  # ours: the channel ends with the last reader

        progress, deadline = raddle.every(options.every), raddle.after(options.limit)
        try:
            while True:
                source, value = raddle.select(digests, progress, deadline)
                if source is digests:
                    digest, length = value
                    files, size = files + 1, size + length
                    seen.add(digest)
                elif source is progress:
                    print(f"{files:6} files, {size / 1e6:6.1f} MB; waiting: {len(paths)} paths, {len(digests)} digests")
                else:
                    print(f"stopped after {options.limit:g} s")
                    scope.stop("the deadline of the example has passed")
                    break
        except raddle.Closed:  # all readers have ended, and nothing is left
            pass
    print(f"{files:6} files, {size / 1e6:6.1f} MB in all; {files - len(seen)} are copies of others")
    return 0


if __name__ == "__main__":
    sys.exit(main())
