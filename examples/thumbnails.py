"""Thumbnails of a folder of pictures, made by all cores.

    python examples/thumbnails.py ~/Pictures                           # into ~/Pictures/thumbnails
    python examples/thumbnails.py ~/Pictures --into /tmp/t --size 128  # another folder, 128 pixels at most
    python examples/thumbnails.py --sample 40                          # draws 40 pictures first, in a temporary folder

A picture that cannot be read is named, with the reason, and the others go on. It ends with 0 when every picture has a
thumbnail, with 1 when some have none, with 2 when it cannot start.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import raddle

try:
    from PIL import Image, ImageOps
except ImportError:
    print("error: this example needs Pillow; install it with: pip install pillow", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from collections.abc import Sequence

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class Made:
    """What became of one picture."""

    source: Path
    bytes_before: int = 0
    bytes_after: int = 0
    problem: str = ""
    """Why there is no thumbnail; empty when there is one."""


def make_thumbnail(source: Path, target: Path, size: int) -> Made:
    """Runs in a worker process. What is wrong with one picture is part of the answer: an exception would end the whole map."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source) as picture:
            small = ImageOps.exif_transpose(picture).convert("RGB")
            small.thumbnail((size, size))
            small.save(target, "JPEG", quality=85)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return Made(source, problem=f"{type(error).__name__}: {error}")
    return Made(source, source.stat().st_size, target.stat().st_size)


def draw_picture(path: Path, number: int) -> None:
    """A picture to try this with: two gradients, which are different for every number."""
    across = Image.linear_gradient("L").rotate(number * 37 % 360).resize((1200, 900))
    around = Image.radial_gradient("L").resize((1200, 900))
    Image.merge("RGB", (across, around, across.transpose(Image.Transpose.FLIP_LEFT_RIGHT))).save(path, quality=95)


def find_pictures(folder: Path, into: Path) -> list[Path]:
    """Every picture below the folder, in a fixed order, without the thumbnails of the last time."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not path.is_relative_to(into))


def run(options: argparse.Namespace, folder: Path) -> int:
    into: Path = options.into or folder / "thumbnails"
    with raddle.Pool("process", workers=options.workers) as pool:
        if options.sample:
            paths = [folder / f"picture{number:03}.jpg" for number in range(options.sample)]
            for _ in pool.map(draw_picture, paths, range(options.sample)):
                pass
        pictures = find_pictures(folder, into)
        if not pictures:
            print(f"error: no picture below {folder}", file=sys.stderr)
            return 2
        # Their suffix stays part of the name: a.png and a.jpg are two pictures.
        targets = [into / f"{path.relative_to(folder)}.jpg" for path in pictures]
        began = time.perf_counter()
        sizes = [options.size] * len(pictures)
        made = list(pool.map(make_thumbnail, pictures, targets, sizes, ordered=False, progress=True))
        seconds = time.perf_counter() - began

    problems = sorted((one for one in made if one.problem), key=lambda one: one.source)
    before, after = sum(one.bytes_before for one in made), sum(one.bytes_after for one in made)
    print(f"made      {len(made) - len(problems)} thumbnails in {into}")
    print(f"size      {before / 1e6:.1f} MB became {after / 1e6:.2f} MB")
    print(f"time      {seconds:.2f} s with {pool.workers} workers")
    for one in problems:
        print(f"problem   {one.source}: {one.problem}")
    return 1 if problems else 0


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where the pictures are; left out with --sample")
    parser.add_argument("--into", type=Path, help="where the thumbnails go (default: FOLDER/thumbnails)")
    parser.add_argument("--size", type=positive, default=256, help="pixels on the longer side (default: %(default)s)")
    parser.add_argument("--workers", type=positive, help="worker processes (default: one for each core)")
    parser.add_argument("--sample", type=positive, metavar="COUNT", help="draw so many pictures first")
    options = parser.parse_args(arguments)
    if options.folder is None and options.sample is None:
        parser.error("name a folder of pictures, or have some drawn with --sample 40")
    if options.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            return run(options, Path(folder))
    if not options.folder.is_dir():
        parser.error(f"not a directory: {options.folder}")
    return run(options, options.folder)


try:
    sys.exit(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
