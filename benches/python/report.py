"""Makes tables of a run's JSON: for the terminal, and `docs/benchmarks.md`.

    report.py [JSON]      writes the document anew from bench-results/latest.json, without measuring

The prose of the document is in `benches/notes.md`, one section per row; nothing in the document is written by hand.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contenders
import limits
import rows

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
MARKS = ("<!-- measured by `make bench` -->", "<!-- end of what was measured -->")
NOTES = ROOT / "benches" / "notes.md"
LEVEL = 0.05
"""Two times that differ by less than this share are called level: a second run could turn them round."""


def shown(value: float, unit: str = "") -> str:
    """A number with three digits that matter."""
    text = f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{text} {unit}".strip()


def times(ratio: float) -> str:
    return (shown(ratio) if ratio >= 0.1 else f"{ratio:.2g}") + "x"


@dataclass(frozen=True)
class Line:
    """One face of Raddle in one row, held against the others."""

    row: rows.Row
    metric: str
    face: str
    value: float
    stdlib: float | None
    peer: tuple[str, float] | None
    limit: float | None
    inline: float | None = None
    plain: float | None = None
    beside_plain: float | None = None
    """How many times the time of the program by itself, round by round."""

    @property
    def title(self) -> str:
        return self.row.title + (f", {self.metric}" if self.metric != "median" else "")

    @property
    def against_stdlib(self) -> float | None:
        return self.stdlib / self.value if self.stdlib else None

    @property
    def against_peer(self) -> float | None:
        return self.peer[1] / self.value if self.peer else None

    def floor(self) -> str:
        """Each floor of this row, and whether it is met."""
        if self.metric != "median":
            return ""
        said = []
        if self.row.times_stdlib and self.against_stdlib:
            said.append(verdict(f"≥ {self.row.times_stdlib:g}x", self.against_stdlib >= self.row.times_stdlib))
        if self.row.stdlib_times and self.stdlib:
            is_met = (self.beside_plain or self.value / self.stdlib) <= self.row.stdlib_times
            whose = "its own time" if self.row.lane == contenders.OBSERVED else "the standard library's time"
            said.append(verdict(f"≤ {self.row.stdlib_times:g}x {whose}", is_met))
        if self.row.at_most:
            said.append(
                verdict(f"≤ {self.row.at_most:g} {self.row.unit}", self.value * self.row.scale <= self.row.at_most)
            )
        if self.row.times_inline and self.inline:
            floor = f"≥ {self.row.times_inline:g}x {contenders.INLINE}"
            said.append(verdict(floor, self.inline / self.value >= self.row.times_inline))
        plain = self.stdlib if self.row.lane == contenders.OBSERVED else self.plain
        if self.row.adds_at_most and plain is not None:
            added = (self.value - plain) * self.row.scale
            than = "than by itself" if self.row.lane == contenders.OBSERVED else "than a plain call"
            floor = f"≤ {self.row.adds_at_most:g} {self.row.unit} more {than}"
            said.append(verdict(floor, added <= self.row.adds_at_most))
        return ", ".join(said)

    def beside_peers(self) -> str:
        """Whether the best of all others, the standard library included, is slower."""
        stdlib = None if self.row.lane == contenders.OBSERVED else self.against_stdlib  # nobody is faster than nobody
        others = [ratio for ratio in (self.against_peer, stdlib) if ratio is not None]
        if not others:
            return ""
        worst = min(others)
        return "faster" if worst > 1 + LEVEL else "level" if worst >= 1 - LEVEL else "slower"


def verdict(floor: str, is_met: bool) -> str:
    return f"{floor} {'met' if is_met else 'missed'}"


def stdlib_of(numbers: dict[str, Any]) -> Any:
    """The standard library's, of a row's numbers by contender."""
    return next((numbers[name] for name in contenders.STDLIBS if name in numbers), None)


def limit_of(
    row: rows.Row, results: dict[str, Any], row_limits: dict[str, tuple[float, str]]
) -> tuple[float | None, str]:
    """What a row is held against, and what that is made of."""
    if row.limit == contenders.PYTHON:
        return results.get(contenders.PYTHON, {}).get("median"), "the program by itself"
    return row_limits[row.limit]


def lines_of(data: dict[str, Any]) -> list[Line]:
    """The summary: one line per row, number and face of Raddle."""
    row_limits = limits.row_limits(data["limits"])
    lines = []
    for row in rows.ROWS:
        results = {name: result for name, result in data["rows"].get(row.key, {}).items() if "error" not in result}
        limit = limit_of(row, results, row_limits)[0]
        for metric in ("median", "p99"):
            values = {name: result[metric] for name, result in results.items() if metric in result}
            others = {name: value for name, value in values.items() if name not in contenders.OURS}
            stdlib, inline = stdlib_of(others), others.pop(contenders.INLINE, None)
            others = {name: value for name, value in others.items() if name not in contenders.STDLIBS}
            peer = min(others.items(), key=lambda item: item[1]) if others else None
            lines += [
                Line(
                    row,
                    metric,
                    face,
                    values[face],
                    stdlib,
                    peer,
                    limit,
                    inline,
                    results[face].get("plain"),
                    results[face].get("times"),
                )
                for face in contenders.OURS
                if face in values
            ]
    return lines


HEADS = (
    "work",
    "lane",
    "standard library",
    "best peer",
    "Raddle",
    "",
    "x stdlib",
    "x best peer",
    "x limit",
    "floor",
    "beside all",
)


def summary(data: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of the summary."""
    table: list[tuple[str, ...]] = []
    for line in lines_of(data):
        row = line.row
        table.append(
            (
                line.title,
                row.lane,
                shown(line.stdlib * row.scale, row.unit) if line.stdlib else "–",
                f"{line.peer[0]} {shown(line.peer[1] * row.scale, row.unit)}" if line.peer else "–",
                line.face,
                shown(line.value * row.scale, row.unit),
                times(line.against_stdlib) if line.against_stdlib else "–",
                times(line.against_peer) if line.against_peer else "–",
                times(line.value / line.limit) if line.limit else "–",
                line.floor(),
                line.beside_peers(),
            )
        )
    return table


def details(data: dict[str, Any], row: rows.Row) -> list[tuple[str, ...]]:
    """The cells of one row's own table: every contender, the fastest first."""
    results = data["rows"].get(row.key, {})
    numbers = {name: result for name, result in results.items() if "error" not in result}
    stdlib = (stdlib_of(numbers) or {}).get("median")
    remarks = {c.name: c.note for c in contenders.of_row(row.key)} if row.key in contenders.MAP else {}
    table: list[tuple[str, ...]] = []
    for name, result in sorted(numbers.items(), key=lambda item: item[1]["median"]):
        extra = [remarks.get(name, "")]
        if "p99" in result:
            extra.insert(0, f"p99 {shown(result['p99'] * row.scale, row.unit)}")
        if "submit" in result:
            extra.insert(0, f"one submit {shown(result['submit'] * 1e6, 'µs')}")
        if "plain" in result:
            extra.insert(0, f"a plain call {shown(result['plain'] * row.scale, row.unit)}")
        if "each" in result:
            extra.insert(0, f"{shown(result['each'] * 1e6, 'µs')} per item")
        if "times" in result and name != contenders.PYTHON:
            extra.insert(0, f"{times(result['times'])} the time of the program by itself")
        if "failed_rounds" in result:
            extra.append(f"{result['failed_rounds']} of its rounds failed")
        table.append(
            (
                name,
                shown(result["median"] * row.scale, row.unit),
                f"{shown(result['low'] * row.scale)} – {shown(result['high'] * row.scale)}",
                times(stdlib / result["median"]) if stdlib else "–",
                "; ".join(filter(None, extra)),
            )
        )
    table += [(name, "–", "", "", result["error"]) for name, result in results.items() if "error" in result]
    return table


def detail_heads(row: rows.Row) -> tuple[str, ...]:
    return ("", "least" if row.of_rounds is min else "median", "lowest – highest round", "x stdlib", "")


def aligned(heads: tuple[str, ...], table: list[tuple[str, ...]], indent: str = "") -> str:
    """A table of plain text."""
    widths = [max(len(cells[column]) for cells in [heads, *table]) for column in range(len(heads))]
    rendered = [
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip() for cells in [heads, *table]
    ]
    return "\n".join(indent + text for text in rendered)


def markdown(heads: tuple[str, ...], table: list[tuple[str, ...]]) -> str:
    rendered = ["| " + " | ".join(cells) + " |" for cells in [heads, tuple("---" for _ in heads), *table]]
    return "\n".join(rendered)


def shown_limit(name: str, value: float) -> str:
    if "bytes" in name:
        return f"{value:.0f} B"
    if value >= 1e-3:
        return shown(value * 1e3, "ms")
    return shown(value * 1e6, "µs") if value >= 1e-6 else shown(value * 1e9, "ns")


def limits_table(data: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(name, shown_limit(name, value)) for name, value in data["limits"].items()]


def machine(data: dict[str, Any]) -> str:
    run = data["run"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return (
        f"{run['machine']}, Linux {run['kernel']}; {versions}; {run['workers']} workers; "
        f"{run['date']}, commit {run['commit']}, load before the run {run['load_before']}"
    )


def terminal(data: dict[str, Any]) -> str:
    """Everything, for the terminal."""
    parts = [
        machine(data),
        aligned(("physical limits, measured in this run", ""), limits_table(data)),
    ]
    for row in rows.ROWS:
        if data["rows"].get(row.key):
            parts.append(f"{row.title} ({row.lane})\n" + aligned(detail_heads(row), details(data, row), "  "))
    table = summary(data)
    if table:
        parts.append(aligned(HEADS, table))
    return "\n\n".join(parts)


def notes() -> dict[str, str]:
    """The sections of `benches/notes.md` by the key that heads them."""
    sections: dict[str, str] = {}
    for part in NOTES.read_text().split("\n## ")[1:]:
        key, _, text = part.partition("\n")
        sections[key.strip()] = text.strip()
    unknown = set(sections) - set(rows.BY_KEY)
    if unknown:
        raise ValueError(f"{NOTES.name} has sections for rows that do not exist: {', '.join(sorted(unknown))}")
    return sections


INTRODUCTION = """\
<!-- Written by `make bench` from bench-results/latest.json and benches/notes.md. Do not edit. -->

# Benchmarks

Raddle's pools beside the standard library's and their best-known alternatives, each used in the way its documentation
recommends, its primitives beside `threading` and `queue`, and programs under `raddle run` beside themselves, in one run on one machine. `make bench` repeats it;
`benches/README.md` defines every workload.

Every number comes from fresh processes, round by round in turn (A B C A B C ...); the median of the rounds counts, of the programs that are observed the least. "x stdlib"
and "x best peer" say how many times faster Raddle is than the standard library (`concurrent.futures` for pools, `threading`
and `queue` for the rows of these lanes; for those of `run` the program by itself, which nobody beats) and than the fastest of the others in the same run; "x limit" how many times the
physical limit of the same machine it costs. A case where Raddle loses stays in the table.
"""


def document(data: dict[str, Any]) -> str:
    """The whole of `docs/benchmarks.md`."""
    row_limits, prose = limits.row_limits(data["limits"]), notes()
    parts = [INTRODUCTION.strip(), machine(data) + ".", "## Summary", markdown(HEADS, summary(data))]
    parts += [
        "## Physical limits",
        "Measured in the same run, from Python; each contains one or two cheap calls of Python.",
        markdown(("", ""), limits_table(data)),
        "## Row by row",
    ]
    for row in rows.ROWS:
        value, made_of = limit_of(row, data["rows"].get(row.key, {}), row_limits)
        parts.append(f"### {row.title[0].upper()}{row.title[1:]} ({row.lane})")
        parts.append(markdown(detail_heads(row), details(data, row)))
        if value is not None:
            parts.append(f"Physical limit: {shown(value * row.scale, row.unit)} ({made_of}).")
        if row.key in prose:
            parts.append(prose[row.key])
    return "\n\n".join(parts) + "\n"


def short_table(data: dict[str, Any]) -> str:
    """The medians without the columns that need an explanation, for the README."""
    heads = ("work", "lane", "standard library", "best peer", "", "Raddle", "x stdlib")
    kept = [cells[:6] + cells[6:7] for line, cells in zip(lines_of(data), summary(data)) if line.metric == "median"]
    return f"{markdown(heads, kept)}\n\n{machine(data)}."


def write_document(data: dict[str, Any]) -> None:
    """Rewrites `docs/benchmarks.md`, and the table between the marks in the README."""
    DOCUMENT.write_text(document(data))
    before, _, rest = README.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    README.write_text(f"{before}{MARKS[0]}\n\n{short_table(data)}\n\n{MARKS[1]}{after}")


def main() -> None:
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "bench-results" / "latest.json"
    if not source.exists():
        sys.exit(f"report: {source} does not exist\n  hint: make bench writes it")
    write_document(json.loads(source.read_text()))
    print(f"written: {DOCUMENT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
