"""The words of all texts below a folder, counted by all cores: a map and a reduction in one.

    python examples/word_count.py                              # the sources of Python's standard library
    python examples/word_count.py ~/notes --suffix .md .txt    # other texts
    python examples/word_count.py --top 50 --workers 4 --kind thread

Each worker counts the words of some files and adds its counts up; then neighbours are added up, in the workers too. What comes back
is one table, not one for each file.

It ends with 0, or with 2 when it cannot start.
"""

from __future__ import annotations

import argparse
import re
import sys
import sysconfig
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import raddle

if TYPE_CHECKING:
    from collections.abc import Sequence

WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass
class Count:
    """The words of some files."""

    words: Counter[str] = field(default_factory=Counter)
    files: int = 0
    unreadable: list[str] = field(default_factory=list)


def count_words(path: Path) -> Count:
    """Counts the words of one file; capitals do not matter."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return Count(unreadable=[f"{path}: {error.strerror}"])
    return Count(Counter(WORD.findall(text.lower())), 1)


def together(left: Count, right: Count) -> Count:
    """Both counts in one. `left` has been made for this sum alone, and is used for it."""
    left.words.update(right.words)
    left.files += right.files
    left.unreadable += right.unreadable
    return left


def find_texts(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Every file below the folder that ends so, in a fixed order, without installed packages."""
    found = (path for path in folder.rglob("*") if path.suffix in suffixes and "site-packages" not in path.parts)
    return sorted(path for path in found if path.is_file())


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(sysconfig.get_paths()["stdlib"]))
    parser.add_argument("--suffix", nargs="+", default=[".py", ".txt"], help="endings of names (default: .py .txt)")
    parser.add_argument("--top", type=positive, default=20, help="how many words to show (default: %(default)s)")
    parser.add_argument("--workers", type=positive, help="workers (default: one for each core)")
    parser.add_argument("--kind", choices=["process", "thread"], default="process", help="default: %(default)s")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        parser.error(f"not a directory: {options.folder}")
    texts = find_texts(options.folder, options.suffix)
    if not texts:
        print(f"error: no {' or '.join(options.suffix)} file below {options.folder}", file=sys.stderr)
        return 2

    began = time.perf_counter()
    with raddle.Pool(options.kind, workers=options.workers) as pool:
        # Four parts for each worker share the work evenly. The table of a part travels to where it is added up: not more than that.
        count = pool.map_reduce(count_words, together, texts, grain=max(1, len(texts) // (4 * pool.workers)))
        workers = pool.workers
    seconds = time.perf_counter() - began

    for word, times in count.words.most_common(options.top):
        print(f"{times:>10,}  {word}")
    print(
        f"{count.words.total():>10,}  words, {len(count.words):,} different ones, in {count.files:,} files; "
        f"{seconds:.2f} s with {workers} {options.kind} workers"
    )
    for problem in count.unreadable:
        print(f"unreadable  {problem}")
    return 0


try:
    sys.exit(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
