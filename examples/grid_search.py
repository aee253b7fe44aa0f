"""A grid search of scikit-learn on Raddle's process pool.

    python examples/grid_search.py                             # handwritten digits, which come with scikit-learn
    python examples/grid_search.py --jobs 8 --folds 10
    python examples/grid_search.py --backend loky              # the same on joblib's own pool, to compare

It ends with 0, or with 2 when it cannot start.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

try:
    from joblib import parallel_config
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV, train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC
except ImportError:
    print("error: this example needs scikit-learn; install it with: pip install scikit-learn", file=sys.stderr)
    sys.exit(2)

import raddle.joblib

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID = {"svc__C": [0.1, 1.0, 10.0], "svc__gamma": [0.001, 0.01, 0.1]}


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=positive, default=-1, help="worker processes (default: one for each core)")
    parser.add_argument(
        "--folds", type=positive, default=5, help="parts of the cross-validation (default: %(default)s)"
    )
    parser.add_argument("--backend", choices=["raddle", "loky", "threading"], default="raddle")
    parser.add_argument("--images", type=positive, help="only so many images (default: all 1797)")
    options = parser.parse_args(arguments)
    if options.folds < 2:
        parser.error("a cross-validation needs 2 folds at least")

    raddle.joblib.register()
    images, digits = load_digits(return_X_y=True)
    images, digits = images[: options.images], digits[: options.images]
    images, unseen_images, digits, unseen_digits = train_test_split(images, digits, random_state=0)
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), GRID, cv=options.folds)
    began = time.perf_counter()
    with parallel_config(backend=options.backend, n_jobs=options.jobs):
        search.fit(images, digits)
    seconds = time.perf_counter() - began

    results = search.cv_results_
    for rank, score, choice in sorted(
        zip(results["rank_test_score"], results["mean_test_score"], results["params"], strict=True),
        key=lambda row: (row[0], str(row[2])),
    ):
        print(f"{rank:>3}. {score:.4f}  C = {choice['svc__C']:<5g} gamma = {choice['svc__gamma']:g}")
    fits = len(results["params"]) * options.folds
    print(f"{search.score(unseen_images, unseen_digits):.4f} of the unseen digits are told right by the best")
    print(f"{fits} fits in {seconds:.2f} s on {options.backend}")
    return 0


try:
    sys.exit(main())
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
    sys.exit(130)
