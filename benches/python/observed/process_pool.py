"""Two processes count words, one text after the other."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

WORDS = ("comb", "loom", "thread", "warp", "weft", "shuttle", "heddle", "reed")


def count(seed: int) -> int:
    text = " ".join([WORDS[(seed + index * index) % len(WORDS)] for index in range(60_000)])
    counted: Counter[str] = Counter()
    for word in text.split():
        counted[word] += len(word)
    return counted["loom"] + counted["comb"]


if __name__ == "__main__":
    texts = int(sys.argv[1])
    with ProcessPoolExecutor(2) as pool:
        assert sum(pool.map(count, range(texts))) > 0
