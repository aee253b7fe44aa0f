"""What the tests of the promises share."""

from __future__ import annotations

import pytest

import raddle


@pytest.fixture
def pool():
    with raddle.Pool("process", 2) as pool:
        yield pool
