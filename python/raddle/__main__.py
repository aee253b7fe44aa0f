"""`python -m raddle`: the command line."""

from __future__ import annotations

from ._cli import command

if __name__ == "__main__":
    command()
