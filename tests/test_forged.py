"""A worker answers with bytes that it made up: whatever they are, the call ends, with a value or an ordinary exception.

The record is written into the ring of answers as `crates/raddle-shm/src/ring/ring.md` draws it, in place of the worker's own.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import struct

import pytest

import raddle

RING = 256 << 10
REPLY_LINES = 0x180
VALUE, ERROR, UNREADABLE = 17, 18, 19
FLAT, RAISED, BUFFERS, LIST = 2, 32, 64, 128


def forge(kind, flags, done, payload, ordinal=1):
    """Writes an answer to the call that runs, which is the first one of this worker, and ends the worker."""
    with open("/proc/self/maps") as file:
        parts = [line.split() for line in file if "/memfd:raddle-link" in line and "rw-s" in line]
    start_of = {int(part[2], 16): int(part[0].split("-")[0], 16) for part in reversed(parts)}
    head, ring = start_of[0], start_of[4096 + RING]
    tail = ctypes.c_uint64.from_address(head + REPLY_LINES)
    record = struct.pack("=IIBBHIQQ", 1, len(payload), kind, flags, 0, done, ordinal, 5) + payload
    record += bytes(-len(record) % 32)
    assert tail.value + len(record) <= RING, "the first answers of a worker lie at the beginning"
    ctypes.memmove(ring + tail.value, record, len(record))
    tail.value += len(record)
    os._exit(0)


def forge_once(number, path, *record):
    """The same, for the first item of a map; later ones are what they are."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return number
    return forge(*record)


def entry(content, is_pickle):
    return struct.pack("<Q", len(content) << 1 | is_pickle) + content


def random_payload(chance):
    """Bytes that are nearly an answer, or anything."""
    value = pickle.dumps(chance.choice([None, [1, 2], {"a": (1.5, b"x" * 100)}, ValueError("x"), range(5)]), 5)
    pair = pickle.dumps((chance.choice([ValueError("real"), None, 5, KeyError]), chance.choice(["text", None, 7])), 5)
    flat = chance.choice(
        [b"N", b"T", b"i" + bytes(8), b"s\x02\x00\x00\x00ab", b"(\x02NN", b"(" * 20, b"y\xff\xff\xff\xff", b""]
    )
    place = struct.pack("=QQQQ", chance.randrange(5), *(chance.choice([0, 64, 1 << 20, 1 << 63]) for _ in range(3)))
    buffers = struct.pack("=II", chance.choice([0, 1, 2, 1 << 31]), 0) + place * chance.randrange(3)
    entries = b"".join(
        entry(chance.choice([flat, value, pair]), chance.random() < 0.5) for _ in range(chance.randrange(4))
    )
    found = chance.choice([value, pair, flat, buffers + value, entries, chance.randbytes(chance.randrange(100)), b""])
    if chance.random() < 0.3:
        found = found[: chance.randrange(len(found) + 1)]
    if chance.random() < 0.3 and found:
        at = chance.randrange(len(found))
        found = found[:at] + chance.randbytes(1) + found[at + 1 :]
    return found


def is_ordinary(error):
    """Whether a user may see it: not a panic, nor what says that Raddle has a bug."""
    return error is None or (isinstance(error, Exception) and not isinstance(error, raddle.errors.InternalError))


def outcome(results):
    """What an iterator yields, and how it ends."""
    found = []
    try:
        found.extend(results)
    except BaseException as error:
        return found, error
    return found, None


def test_a_forged_answer_is_believed_if_it_can_be_read():
    with raddle.Pool("process", 1) as pool:
        answer = pickle.dumps(["forged"], 5)
        assert pool.submit(forge, VALUE, 0, 1, answer).result(30) == ["forged"]


@pytest.mark.parametrize("seed", range(40))
def test_an_answer_that_was_made_up_ends_its_call(seed):
    chance = random.Random(seed)
    with raddle.Pool("process", 1) as pool:
        flags = chance.choice([0, 0, FLAT, LIST, LIST | RAISED, BUFFERS, chance.randrange(256) & ~1])
        record = chance.choice([VALUE, VALUE, ERROR, UNREADABLE]), flags, chance.choice([0, 1, 5, 1 << 31])
        error = pool.submit(forge, *record, random_payload(chance)).exception(30)
        assert is_ordinary(error), error
        assert pool.submit(abs, -1).result(30) == 1


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_to_a_batch_that_was_made_up_ends_its_map(tmp_path, seed):
    chance = random.Random(seed)
    with raddle.Pool("process", 1) as pool:
        assert list(pool.map(abs, range(3000))) == list(range(3000))  # it is known now that calls are short
        record = VALUE, chance.choice([LIST, LIST | RAISED, 0, FLAT]), chance.choice([0, 1, 3, 1 << 31])
        ordinal = chance.randrange(2, 30)
        payload = random_payload(chance)
        arguments = [str(tmp_path / "once")], [record[0]], [record[1]], [record[2]], [payload], [ordinal]
        count = 2000
        found, error = outcome(
            pool.map(forge_once, range(count), *(argument * count for argument in arguments), timeout=30)
        )
        assert is_ordinary(error), error
        assert len(found) <= count
        assert pool.submit(abs, -1).result(30) == 1
