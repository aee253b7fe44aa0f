"""Measures one row for one contender, or the physical limits, in this process, and writes the numbers as JSON.

one.py OUT limits
one.py OUT ROW CONTENDER [quick]
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    out, what, *rest = sys.argv[1:]
    if what == "limits":
        import limits

        numbers = limits.measure()
    else:
        import contenders
        import rows
        import sizes

        name, *effort = rest
        contender = next(contender for contender in contenders.of_row(what) if contender.name == name)
        numbers = rows.BY_KEY[what].measure(contender, sizes.QUICK if effort == ["quick"] else sizes.FULL)
    with open(out, "w", encoding="utf-8") as file:
        json.dump(numbers, file)
    # Nothing that a pool does at exit belongs to the measurement, and some would drain a queue of 100,000 tasks.
    os._exit(0)


if __name__ == "__main__":
    main()
