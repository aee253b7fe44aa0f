"""`raddle.sync`: what each primitive does, how waits end, what is named as a deadlock and what is not, what is counted."""

from __future__ import annotations

import copy
import doctest
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading as standard
import time
import weakref

import pytest

import raddle
import raddle.sync
from calls import until
from raddle import _raddle
from raddle.sync import (
    AtomicFlag,
    AtomicInt,
    AtomicRef,
    ConcurrentDict,
    Counter,
    Latch,
    Lock,
    Once,
    RLock,
    RwLock,
    once,
)
from raddle.threading import Condition, Event, Thread
from threads import together

pytestmark = pytest.mark.timeout(60)
PATIENCE = 20
PREFERENCES = ("fair", "readers", "writers")


def kinds_of(results):
    return sorted("ok" if error is None else type(error).__name__ for error in results)


def in_thread(function):
    """Runs it on another thread, and returns or raises what it did."""
    returned = []
    (error,) = together(lambda: returned.append(function()))
    if error is not None:
        raise error
    return returned[0]


def started(function, *arguments):
    thread = Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def parked(*threads):
    until(lambda: all(thread.life.state == "parked" for thread in threads), "the threads to wait")


def gone(thread):
    """Waits until the thread has ended to the last, which `join` does not."""
    ident = until(lambda: thread.native_id, "the thread to start")
    thread.join(PATIENCE)
    until(lambda: all(native != ident for _, _, native in _raddle.list_units()), "the thread to be forgotten")


def program(source, patience=PATIENCE):
    """Runs a program of its own, in which there are no threads but its own."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=patience
    )
    return done.returncode, done.stdout, done.stderr


def test_the_examples_of_the_docstrings_run():
    result = doctest.testmod(raddle.sync, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted > 50


def test_all_is_exact_and_the_module_is_loaded_when_it_is_used():
    public = {name for name in vars(raddle.sync) if not name.startswith("_")}
    imported = {"annotations", "functools", "Any", "NamedTuple", "TypeVar", "TYPE_CHECKING"}
    assert public - imported == set(raddle.sync.__all__)
    code, out, _ = program("""
        import sys, raddle
        print("raddle.sync" in sys.modules, raddle.sync.Lock().locked(), "raddle.sync" in sys.modules)
    """)
    assert (code, out) == (0, "False False True\n")


@pytest.mark.parametrize(
    "made", [Lock(), RLock(), RwLock(), Once(), Latch(1), AtomicInt(), AtomicRef(), Counter(), ConcurrentDict()]
)
def test_none_is_pickled_or_copied(made):
    for refuses in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError):
            refuses(made)
    weakref.ref(made)
    assert repr(made).startswith(f"<{type(made).__name__}")


# --- locks --------------------------------------------------------------------------------------------------------------

LOCKS = pytest.mark.parametrize("kind", [Lock, RLock])
FAIR = pytest.mark.parametrize("fair", [False, True])


@LOCKS
@FAIR
def test_a_lock_has_one_holder(kind, fair):
    lock, total, each = kind(fair=fair), [0], 300

    def work():
        for _ in range(each):
            with lock:
                before = total[0]
                if before % 50 == 0:
                    time.sleep(0)
                total[0] = before + 1

    assert kinds_of(together(*[work] * 4)) == ["ok"] * 4
    assert total == [4 * each]
    assert lock.statistics().acquisitions == 4 * each
    assert not lock.locked()


@LOCKS
@FAIR
def test_only_the_holder_releases_it(kind, fair):
    lock = kind(fair=fair)
    with pytest.raises(RuntimeError, match="only by the thread that holds it"):
        lock.release()
    with lock:
        with pytest.raises(RuntimeError, match="only by the thread that holds it"):
            in_thread(lock.release)
        assert lock.locked()
    assert not lock.locked()


def test_a_lock_taken_again_by_its_holder_is_an_error_at_once():
    lock = Lock()
    with lock:
        with pytest.raises(RuntimeError, match="use an RLock"):
            lock.acquire()
        with pytest.raises(RuntimeError, match="would wait for itself"):
            lock.acquire(timeout=1)
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(False) is False


@FAIR
def test_an_rlock_is_free_when_it_was_released_as_often_as_it_was_taken(fair):
    lock = RLock(fair=fair)
    with lock, lock:
        with lock:
            pass
        assert in_thread(lambda: lock.acquire(timeout=0.01)) is False
    assert in_thread(lambda: lock.acquire(False)) is True
    assert lock.statistics().gave_up == 1


def test_a_fair_lock_is_taken_in_the_order_of_arrival():
    for _ in range(5):
        lock, order, threads = Lock(fair=True), [], []

        def work(number):
            with lock:
                order.append(number)

        with lock:
            for number in range(6):
                threads.append(started(work, number))
                parked(threads[-1])
            leaver = started(lambda: lock.acquire(timeout=0.05))
            leaver.join(PATIENCE)
        assert not lock.acquire(False) or order == list(range(6)), "nobody overtakes"
        for thread in threads:
            thread.join(PATIENCE)
        assert order == list(range(6))


def test_whoever_waits_for_a_fair_lock_gets_it_between_two_turns_of_another():
    lock, turns = Lock(fair=True), []
    with lock:
        thread = started(lambda: lock.acquire() and (turns.append("other"), lock.release()))
        parked(thread)
    with lock:
        turns.append("main")
    thread.join(PATIENCE)
    assert turns == ["other", "main"]


@LOCKS
def test_a_condition_stands_on_it(kind):
    lock = kind(fair=True)
    condition, items, got = Condition(lock), [], []

    def consume():
        with condition:
            condition.wait_for(lambda: items, PATIENCE)
            got.append(items.pop())

    thread = started(consume)
    with condition:
        items.append(7)
        condition.notify()
    thread.join(PATIENCE)
    assert got == [7]


# --- readers and writers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_readers_and_writers_never_meet(prefer):
    rw, halves, seen = RwLock(prefer=prefer), [0, 0], []

    def read():
        for _ in range(150):
            with rw.read():
                seen.append(halves[0] - halves[1])
                time.sleep(0)

    def write():
        for _ in range(50):
            with rw.write():
                halves[0] += 1
                time.sleep(0)
                halves[1] += 1

    assert kinds_of(together(read, read, write, write)) == ["ok"] * 4
    assert set(seen) == {0}
    assert halves == [100, 100]
    statistics = rw.statistics()
    assert (statistics.reads.acquisitions, statistics.writes.acquisitions) == (300, 100)


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_readers_read_at_the_same_time(prefer):
    rw, meet = RwLock(prefer=prefer), standard.Barrier(3)

    def read():
        with rw.read():
            meet.wait(PATIENCE)

    assert kinds_of(together(read, read, read)) == ["ok"] * 3


@pytest.mark.parametrize(("prefer", "enters"), [("readers", True), ("writers", False), ("fair", False)])
def test_whether_a_reader_passes_a_writer_that_waits(prefer, enters):
    rw, wrote = RwLock(prefer=prefer), []

    def write():
        with rw.write():
            wrote.append(1)

    with rw.read():
        writer = started(write)
        parked(writer)
        assert in_thread(lambda: rw.read().acquire(timeout=0) and rw.read().release() is None) is enters
        with rw.read():  # again, by a thread that has it
            assert wrote == []
    writer.join(PATIENCE)
    assert wrote == [1]


def test_an_upgrade_is_refused_and_the_reader_goes_on():
    rw = RwLock()
    with rw.read():
        with pytest.raises(RuntimeError, match="cannot begin to write"):
            with rw.write():
                pass
        with pytest.raises(RuntimeError, match="hint: leave"):
            rw.write().acquire(timeout=0)
        assert in_thread(lambda: rw.read().acquire(timeout=0) and rw.read().release() is None)
    with rw.write():
        pass


def test_two_that_would_upgrade_at_the_same_time_are_both_refused():
    rw, meet = RwLock(), standard.Barrier(2)

    def work():
        with rw.read():
            meet.wait(PATIENCE)
            with rw.write():
                pass

    assert kinds_of(together(work, work)) == ["RuntimeError"] * 2
    with rw.write(timeout=1):
        pass


def test_a_writer_reads_and_goes_on_as_a_reader():
    rw = RwLock()
    with rw.write():
        with rw.write(), rw.read():
            pass
        rw.read().acquire()
    assert repr(rw) == "<RwLock fair, 1 reader>"
    assert in_thread(lambda: rw.read().acquire(timeout=0) and rw.read().release() is None)
    assert in_thread(lambda: rw.write().acquire(timeout=0)) is False
    rw.read().release()
    with rw.write(timeout=0):
        pass


def test_what_an_rwlock_refuses():
    rw = RwLock()
    with pytest.raises(RuntimeError, match="does not have the RwLock for reading"):
        rw.read().release()
    with rw.read():
        with pytest.raises(RuntimeError, match="does not have the RwLock for writing"):
            rw.write().release()
    with pytest.raises(ValueError, match="'fair', 'readers' or 'writers', not \"both\""):
        RwLock(prefer="both")
    with pytest.raises(TypeError, match="timeout must be"):
        rw.read(timeout="1")

    def write():
        with rw.write(timeout=0.02):
            pass

    with rw.read():
        with pytest.raises(TimeoutError, match=r"for writing within 0\.02 s"):
            in_thread(write)
    assert rw.statistics().writes.gave_up == 1


# --- once and latch -----------------------------------------------------------------------------------------------------


def test_once_is_called_by_one_thread_and_returned_to_all():
    guard, calls, got = Once(), [], []

    def make():
        calls.append(1)
        time.sleep(0.02)
        return object()

    assert kinds_of(together(*[lambda: got.append(guard.call(make))] * 8)) == ["ok"] * 8
    assert len(calls) == 1
    assert len(got) == 8
    assert len(set(map(id, got))) == 1
    assert guard.done


def test_a_call_that_fails_lets_the_next_one_try():
    guard, calls, got = Once(), [], []

    def make():
        calls.append(1)
        time.sleep(0.01)
        if len(calls) < 3:
            raise LookupError(len(calls))
        return "made"

    results = together(*[lambda: got.append(guard.call(make))] * 6)
    assert kinds_of(results) == ["LookupError"] * 2 + ["ok"] * 4
    assert got == ["made"] * 4
    assert guard.statistics()[:2] == (3, 2)


def test_a_once_that_calls_itself_is_refused():
    guard = Once()
    with pytest.raises(RuntimeError, match="would wait for itself"):
        guard.call(lambda: guard.call(int))
    assert guard.call(lambda: 5) == 5


def test_the_decorator_calls_once():
    calls = []

    @once
    def settings():
        """What is set."""
        calls.append(1)
        return calls

    assert settings.__doc__ == "What is set."
    assert kinds_of(together(*[settings] * 4)) == ["ok"] * 4
    assert settings() is calls
    assert calls == [1]
    assert settings.once.statistics().runs == 1


def test_a_once_that_takes_too_long_is_a_timeout():
    guard, release = Once(), Event()
    thread = started(guard.call, release.wait)
    parked(thread)
    with pytest.raises(TimeoutError, match=r"within 0\.02 s"):
        guard.call(int, timeout=0.02)
    release.set()
    thread.join(PATIENCE)
    assert guard.call(int) is True


def test_a_latch_opens_when_all_have_counted():
    latch, done = Latch(3), []

    def work(number):
        with latch:
            done.append(number)
            if number == 2:
                raise LookupError

    waiter = started(lambda: done.append(latch.wait()))
    parked(waiter)
    assert latch.wait(timeout=0.01) is False
    assert kinds_of(together(*[lambda n=n: work(n) for n in range(3)])) == ["LookupError", "ok", "ok"]
    assert latch.wait() is True
    waiter.join(PATIENCE)
    assert (sorted(done[:3]), done[3], latch.count) == ([0, 1, 2], True, 0)
    with pytest.raises(ValueError, match="has 0 left"):
        latch.count_down()
    with pytest.raises(ValueError, match="not from -1"):
        Latch(-1)
    assert latch.statistics()[:2] == (2, 1)


# --- atomics ------------------------------------------------------------------------------------------------------------


def test_an_atomic_int_changes_in_single_steps():
    number, tickets = AtomicInt(), []

    def work():
        local = number
        for _ in range(500):
            tickets.append(local.add())
            local.sub(1)
            local += 2
            local -= 1

    assert kinds_of(together(*[work] * 4)) == ["ok"] * 4
    assert number.load() == 2000

    bits = AtomicInt(0b1100)
    assert [bits.and_(0b0110), bits.or_(0b0001), bits.xor(0b1111), bits.load()] == [0b1100, 0b0100, 0b0101, 0b1010]
    bits &= 0b0010
    bits |= 0b1000
    bits ^= 0b0001
    assert int(bits) == 0b1011
    assert (bits.max(20), bits.min(3), bits.exchange(-5), bits.load()) == (11, 20, 3, -5)
    assert (bits.compare_exchange(1, 2), bits.compare_exchange(-5, 2), bits.load()) == (False, True, 2)
    assert bits.update(lambda value: value * 21) == 42
    assert bits.statistics().failed == 1


def test_an_atomic_int_does_not_wrap_around():
    most, least = AtomicInt(2**63 - 1), AtomicInt(-(2**63))
    for change in (lambda: most.add(1), lambda: most.sub(-1), lambda: least.sub(1), lambda: least.add(-1)):
        with pytest.raises(OverflowError, match="was not changed"):
            change()
    with pytest.raises(OverflowError):
        most.store(2**63)
    with pytest.raises(OverflowError):
        most.update(lambda value: value + 1)
    with pytest.raises(TypeError):
        most.add(0.5)
    assert (most.load(), least.load()) == (2**63 - 1, -(2**63))


def test_an_update_is_repeated_when_somebody_came_between():
    number, seen = AtomicInt(1), []

    def change(value):
        seen.append(value)
        if len(seen) == 1:
            number.store(10)
        return value + 1

    assert number.update(change) == 11
    assert seen == [1, 10]


def test_a_flag_is_set_by_one():
    flag, first = AtomicFlag(), []
    assert kinds_of(together(*[lambda: first.append(flag.test_and_set())] * 6)) == ["ok"] * 6
    assert sorted(first) == [False] + [True] * 5
    assert flag
    assert flag.exchange(False) is True
    assert not flag.is_set()
    flag.set()
    flag.clear()
    assert repr(flag) == "<AtomicFlag unset>"


def test_a_reference_is_compared_by_identity():
    first, equal = [1], [1]
    ref = AtomicRef(first)
    assert ref.compare_exchange(equal, 5) is False
    assert ref.load() is first
    assert ref.compare_exchange(first, equal) is True
    assert ref.exchange(None) is equal
    assert ref.compare_exchange(None, 3) is True
    assert AtomicRef().load() is None
    assert AtomicRef().compare_exchange(None, 1) is True
    total = AtomicRef(())
    assert kinds_of(together(*[lambda: [total.update(lambda t: (*t, 1)) for _ in range(50)]] * 4)) == ["ok"] * 4
    assert len(total.load()) == 200


def test_what_a_reference_drops_may_use_it():
    class Noisy:
        def __del__(self):
            seen.append(ref.load())

    ref, seen = AtomicRef(), []
    ref.store(Noisy())
    ref.store(1)
    ref.store(Noisy())
    assert ref.exchange(2) is not None
    gc.collect()
    ref.store(Noisy())
    assert ref.compare_exchange(ref.load(), 3)
    assert seen == [1, 2, 3]


def test_a_counter_loses_nothing():
    counter = Counter(5)

    def work():
        local = counter
        for _ in range(500):
            local.add(2)
            local += 1
            local -= 1
            local.sub()

    assert kinds_of(together(*[work] * 4)) == ["ok"] * 4
    assert counter.value() == int(counter) == 2005
    assert (counter.take(), counter.value()) == (2005, 0)


# --- the dict -----------------------------------------------------------------------------------------------------------


class Key:
    """A key with few hashes, whose comparing takes a while and may do something."""

    def __init__(self, number, act=lambda: None):
        self.number = number
        self.act = act

    def __hash__(self):
        return self.number % 2

    def __eq__(self, other):
        self.act()
        return isinstance(other, Key) and self.number == other.number

    def __repr__(self):
        return f"Key({self.number})"


@pytest.mark.parametrize("make", [int, str, Key, lambda n: (n, str(n))], ids=["int", "str", "Key", "tuple"])
def test_it_behaves_as_a_dict(make):
    for seed in range(30):
        dice, ours, theirs = random.Random(seed), ConcurrentDict(), {}
        for step in range(100):
            key = make(dice.randrange(8))

            def both(act):
                results = []
                for target in (ours, theirs):
                    try:
                        results.append(act(target))
                    except KeyError as error:
                        results.append(repr(error))
                assert results[0] == results[1]

            both(
                dice.choice(
                    [
                        lambda d: d.__setitem__(key, step),
                        lambda d: d.get(key),
                        lambda d: d.get(key, "none"),
                        lambda d: d[key],
                        lambda d: d.__delitem__(key),
                        lambda d: d.pop(key),
                        lambda d: d.pop(key, 3),
                        lambda d: d.setdefault(key, step),
                        lambda d: key in d,
                        lambda d: (list(d), list(d.values()), list(d.items()), len(d), bool(d)),
                        lambda d: d.clear() if step % 30 == 7 else None,
                    ]
                )
                if step % 10
                else lambda d: list(d.items())
            )
        assert ours.copy() == theirs


def test_what_a_dict_refuses():
    made = ConcurrentDict([("a", 1)])
    for refused in (lambda: made[[]], lambda: made.get([]), lambda: made.setdefault({}), lambda: ConcurrentDict(5)):
        with pytest.raises(TypeError):
            refused()
    with pytest.raises(KeyError, match="missing"):
        made.update("missing", int)
    with pytest.raises(TypeError, match="at most one default"):
        made.pop("a", 1, 2)
    assert made.statistics().failed == 0


def test_iteration_is_over_what_was_there():
    made = ConcurrentDict({n: n for n in range(10)})
    for key in made:
        del made[key]
        made[key + 100] = key
    assert list(made) == list(range(100, 110))


def test_a_value_is_computed_once_for_each_key_and_others_wait():
    made, calls, got = ConcurrentDict(), [], []

    def compute(key):
        calls.append(key.number)
        time.sleep(0.005)
        return object()

    def work():
        got.append([made.get_or_compute(Key(n), compute) for n in range(5)])

    assert kinds_of(together(*[work] * 8)) == ["ok"] * 8
    assert sorted(calls) == list(range(5))
    assert len({tuple(map(id, values)) for values in got}) == 1
    assert made.statistics().computed == 5


def test_a_computation_that_fails_lets_the_next_one_try():
    made, calls, got = ConcurrentDict(), [], []

    def compute(key):
        calls.append(key)
        time.sleep(0.01)
        if len(calls) < 3:
            raise LookupError(key)
        return "made"

    assert kinds_of(together(*[lambda: got.append(made.get_or_compute("k", compute))] * 5)) == [
        "LookupError",
        "LookupError",
        "ok",
        "ok",
        "ok",
    ]
    assert got == ["made"] * 3
    assert made.statistics().failed == 2


def test_reading_and_setting_do_not_wait_for_a_computation():
    made, release = ConcurrentDict({"b": 2}), Event()

    def compute(_):
        release.wait()
        return "computed"

    thread = started(made.get_or_compute, "a", compute)
    parked(thread)
    assert made.get("a") is None
    assert "a" not in made
    assert list(made) == ["b"]
    with pytest.raises(TimeoutError, match=r"within 0\.02 s"):
        made.get_or_compute("a", compute, timeout=0.02)
    made["a"] = "set"
    assert made.get_or_compute("a", compute) == "set"
    release.set()
    thread.join(PATIENCE)
    assert made["a"] == "set", "what was set meanwhile stays"


def test_updates_lose_nothing():
    made = ConcurrentDict()

    def slow(value):
        time.sleep(0)
        return value + 1

    def work():
        for n in range(100):
            made.update(Key(n % 3), slow, 0)

    assert kinds_of(together(*[work] * 4)) == ["ok"] * 4
    assert sum(made.values()) == 400


def test_an_update_is_repeated_when_the_key_was_set_meanwhile():
    made, seen = ConcurrentDict({"k": 1}), []

    def change(value):
        seen.append(value)
        if len(seen) == 1:
            made["k"] = 10
        if len(seen) == 2:
            del made["k"]
        return value + 1

    assert made.update("k", change, 100) == 101
    assert seen == [1, 10, 100]
    assert made.statistics().repeated == 2


def test_asking_for_the_key_that_is_being_made_is_an_error():
    made = ConcurrentDict({"u": 1})
    with pytest.raises(RuntimeError, match="would wait for itself"):
        made.get_or_compute("k", lambda key: made.get_or_compute(key, str))
    with pytest.raises(RuntimeError, match="would wait for itself"):
        made.update("u", lambda value: made.update("u", str))
    assert made.get_or_compute("k", lambda key: made.get_or_compute("other", str)) == "other"
    assert list(made.items()) == [("u", 1), ("other", "other"), ("k", "other")]


def test_keys_may_do_anything_while_they_are_compared():
    made, lock = ConcurrentDict(), Lock()

    def act():
        made.get("x")
        made["y"] = len(made)
        made.pop("y", None)
        gc.collect(0)
        with lock:
            time.sleep(0)

    for n in range(4):
        made[Key(n, act)] = n

    def work():
        for n in range(20):
            made[Key(n % 6, act)] = n
            with lock:
                made.get("x")
            made.pop(Key(n % 5, act), None)
            made.setdefault(Key(n % 3, act), 1)

    assert kinds_of(together(*[work] * 3)) == ["ok"] * 3
    numbers = [key.number for key in made if isinstance(key, Key)]
    assert len(numbers) == len(set(numbers))


def test_a_comparing_that_raises_changes_nothing():
    class Bad(Key):
        __hash__ = Key.__hash__

        def __eq__(self, other):
            raise LookupError("not today")

    made = ConcurrentDict({Bad(0): 1})
    for use in (
        lambda: made.get(Key(2)),
        lambda: made.__setitem__(Key(2), 1),
        lambda: made.get_or_compute(Key(2), str),
        lambda: made.update(Key(2), str, 0),
        lambda: made.pop(Key(2)),
    ):
        with pytest.raises(LookupError, match="not today"):
            use()
    assert made.values() == [1]


def test_what_a_dict_drops_may_use_it():
    class Noisy:
        def __del__(self):
            seen.append(len(made))

    made, seen = ConcurrentDict(), []
    made["a"] = Noisy()
    made["a"] = 1
    made["b"] = Noisy()
    made.pop("b")
    made["c"] = Noisy()
    made.clear()
    made.update("d", lambda _: Noisy(), 0)
    made.update("d", lambda _: 1)
    assert seen == [1, 1, 0, 1]


def test_a_typed_dict_and_reference_can_be_named():
    assert repr(ConcurrentDict[str, int]).startswith("raddle.sync.ConcurrentDict[")
    assert repr(AtomicRef[str]).startswith("raddle.sync.AtomicRef[")


# --- the collector ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tie",
    [
        AtomicRef,
        lambda thing: ConcurrentDict({"k": thing}),
        lambda thing: ConcurrentDict({thing: 1}),
        lambda thing: (made := Once(), made.call(lambda: thing))[0],
    ],
    ids=["AtomicRef", "ConcurrentDict value", "ConcurrentDict key", "Once"],
)
def test_a_circle_through_it_is_collected(tie):
    class Thing:
        pass

    thing = Thing()
    thing.tied = (tie(thing),)
    seen = weakref.ref(thing)
    del thing
    gc.collect()
    assert seen() is None


def test_a_circle_that_only_they_can_break_is_collected():
    class Watched:
        pass

    for make in (AtomicRef, lambda value: ConcurrentDict({0: value})):
        ref, watched = AtomicRef(), Watched()
        other = make((ref, watched))
        ref.store((other,))
        seen = weakref.ref(watched)
        del ref, other, watched
        gc.collect()
        assert seen() is None


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="there the collector does not run in the middle of making an object"
)
@pytest.mark.parametrize("kind", ["AtomicRef(1)", "ConcurrentDict({1: [2]})", "Once()", "RwLock()", "Lock()"])
def test_the_collector_may_come_while_one_is_made(kind):
    code, out, _ = program(f"""
        import gc, raddle.sync as sync
        gc.set_threshold(1)
        made = [sync.{kind} for _ in range(1000)]
        print("done")
    """)
    assert (code, out) == (0, "done\n")


# --- how waits end ------------------------------------------------------------------------------------------------------


def held_elsewhere(acquire):
    """`acquire()` done by a thread that lives as long as the test and holds it."""
    holds, never = standard.Event(), standard.Event()

    def hold():
        acquire()
        holds.set()
        never.wait()

    standard.Thread(target=hold, daemon=True).start()
    assert holds.wait(PATIENCE)


def busy(call):
    """`call(f)` made by a thread whose `f` never ends."""
    runs, never = standard.Event(), standard.Event()
    standard.Thread(target=call, args=(lambda *_: (runs.set(), never.wait()),), daemon=True).start()
    assert runs.wait(PATIENCE)


def waits():
    """Every way to wait: a name, and a function that makes it and returns what waits, with a timeout or without."""

    def lock(made):
        held_elsewhere(made.acquire)
        return made.acquire

    def reader():
        made = RwLock()
        held_elsewhere(made.write().acquire)
        return made.read().acquire

    def writer(prefer):
        made = RwLock(prefer=prefer)
        held_elsewhere(made.read().acquire)
        return made.write().acquire

    def first():
        made = Once()
        busy(made.call)
        return lambda **timeout: made.call(int, **timeout)

    def computed():
        made = ConcurrentDict()
        busy(lambda f: made.get_or_compute("k", f))
        return lambda **timeout: made.get_or_compute("k", str, **timeout)

    def updated():
        made = ConcurrentDict()
        busy(lambda f: made.update("k", f, 0))
        return lambda **timeout: made.update("k", str, 0, **timeout)

    yield "Lock", lambda: lock(Lock())
    yield "fair Lock", lambda: lock(Lock(fair=True))
    yield "RLock", lambda: lock(RLock())
    yield "fair RLock", lambda: lock(RLock(fair=True))
    yield "RwLock.read", reader
    for prefer in PREFERENCES:
        yield f"RwLock.write, {prefer}", lambda prefer=prefer: writer(prefer)
    yield "Once", first
    yield "Latch", lambda: Latch(1).wait
    yield "ConcurrentDict.get_or_compute", computed
    yield "ConcurrentDict.update", updated


WAITS = dict(waits())


@pytest.mark.parametrize("name", WAITS)
def test_every_wait_is_stopped(name):
    wait, ended = WAITS[name](), []

    def work():
        try:
            wait()
        except raddle.Stopped as stopped:
            ended.append(str(stopped))

    thread = started(work)
    parked(thread)
    raddle.stop(thread, "enough")
    thread.join(PATIENCE)
    assert ended
    assert "enough" in ended[0]


@pytest.mark.parametrize("name", WAITS)
def test_ctrl_c_ends_every_wait_at_once(name):
    wait = WAITS[name]()
    timer = standard.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait(timeout=PATIENCE)
    assert time.monotonic() - began < PATIENCE / 2
    timer.join()


@pytest.mark.parametrize("name", WAITS)
def test_every_wait_ends_at_its_timeout(name):
    wait = WAITS[name]()
    for timeout in (0.03, 0, -1):
        began = time.monotonic()
        try:
            assert wait(timeout=timeout) is False
        except TimeoutError:
            pass
        assert time.monotonic() - began >= max(timeout, 0)
    for refused in ("1", []):
        with pytest.raises(TypeError, match="timeout must be a number"):
            wait(timeout=refused)
    with pytest.raises(ValueError, match="nan"):
        wait(timeout=float("nan"))


def test_who_was_stopped_is_in_nobodys_way():
    rw, lock, seen = RwLock(), Lock(fair=True), []

    def use(acquire, release):
        acquire()
        seen.append(1)
        release()

    for acquire, release, blocks in (
        (rw.write().acquire, rw.write().release, rw.read()),
        (lock.acquire, lock.release, lock),
    ):
        with blocks:
            threads = []
            for _ in range(3):
                threads.append(started(use, acquire, release))
                parked(threads[-1])
            raddle.stop(threads[0])
            raddle.stop(threads[2])
            threads[0].join(PATIENCE)
            threads[2].join(PATIENCE)
        threads[1].join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
    assert seen == [1, 1]


# --- fork ---------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_of_a_fork_forgets_who_waited_and_what_others_were_doing():
    lock, rw, latch, guard, made = Lock(fair=True), RwLock(), Latch(1), Once(), ConcurrentDict()
    busy(guard.call)
    busy(lambda f: made.get_or_compute("k", f))
    lock.acquire()
    rw.write().acquire()
    threads = [started(lock.acquire), started(rw.read().acquire), started(rw.write().acquire), started(latch.wait)]
    parked(*threads)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(PATIENCE)
            lock.release()
            rw.write().release()
            latch.count_down()
            with lock, rw.write(timeout=1):
                made["x"] = 1
            with rw.read(timeout=1):
                if latch.wait(timeout=1) and guard.call(lambda: 5) == 5 and made.get_or_compute("k", str) == "k":
                    code = 7
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert all(thread.is_alive() for thread in threads)
    lock.release()
    rw.write().release()
    latch.count_down()
    until(lambda: not threads[3].is_alive(), "the latch")
    until(lambda: not threads[0].is_alive(), "the lock")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_thread_of_the_parent_held_is_named_in_the_child():
    code, out, err = program("""
        import os, warnings
        warnings.simplefilter("ignore")
        import threading, raddle
        from raddle.sync import Lock, RwLock
        raddle.on_deadlock = "raise"
        lock, rw, holds = Lock(), RwLock(), threading.Event()
        def hold():
            with lock, rw.write():
                holds.set()
                threading.Event().wait()
        threading.Thread(target=hold, daemon=True).start()
        holds.wait()
        child = os.fork()
        if child == 0:
            for wait in (lock.acquire, rw.read().acquire, rw.write().acquire):
                try:
                    wait()
                except raddle.DeadlockError:
                    print("named", flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    """)
    assert (code, out, err) == (0, "named\n" * 3, "")


# --- deadlocks ----------------------------------------------------------------------------------------------------------


def nested(outer, inner, meet):
    def run():
        with outer:
            meet()
            with inner:
                pass

    return run


@pytest.mark.parametrize(
    "kinds",
    [
        (Lock, Lock),
        (lambda: Lock(fair=True), RLock),
        (Lock, lambda: RwLock().write()),
        (lambda: RwLock().write(), lambda: RwLock(prefer="readers").write(), Lock),
    ],
)
def test_of_a_ring_one_gets_the_error_and_the_others_go_on(raises, kinds):
    for _ in range(10):
        made = [kind() for kind in kinds]
        meet = standard.Barrier(len(made)).wait
        results = together(*(nested(made[i], made[i - 1], meet) for i in range(len(made))))
        assert kinds_of(results) == ["DeadlockError"] + ["ok"] * (len(made) - 1)
        (error,) = filter(None, results)
        assert len(error.deadlock.units) == len(made)
        assert not error.deadlock.is_everybody


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_a_writer_that_waits_for_a_reader_that_waits_for_it_is_named_while_other_readers_run(raises, prefer):
    rw, lock, meet, runs, end = RwLock(prefer=prefer), Lock(), standard.Barrier(2), standard.Event(), standard.Event()

    def other_reader():
        with rw.read():
            runs.set()
            end.wait(PATIENCE)

    def reader():
        with rw.read():
            meet.wait(PATIENCE)
            with lock:
                pass

    def writer():
        with lock:
            meet.wait(PATIENCE)
            with rw.write():
                pass

    bystander = standard.Thread(target=other_reader)
    bystander.start()
    runs.wait(PATIENCE)
    ended = []

    def both():
        ended.extend(together(reader, writer))

    pair = standard.Thread(target=both)
    pair.start()
    until(lambda: ended or lock.statistics().gave_up or rw.statistics().writes.gave_up, "one of them to be told")
    end.set()
    pair.join(PATIENCE)
    bystander.join(PATIENCE)
    assert kinds_of(ended) == ["DeadlockError", "ok"]
    (error,) = filter(None, ended)
    assert len(error.deadlock.units) == 2
    assert "an RwLock to write at" in str(error)


def test_a_reader_behind_a_writer_that_waits_is_in_the_ring(raises):
    """The first reader joins a second one, which stands behind a writer, which waits for the first one."""
    rw, errors, threads = RwLock(), [], []

    def late():
        with rw.read():
            pass

    def write():
        with rw.write():
            pass

    with rw.read():
        threads.append(started(write))
        parked(threads[0])
        threads.append(started(late))
        parked(threads[1])
        try:
            threads[1].join()
        except raddle.DeadlockError as error:
            errors.append(error)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(errors) == 1
    assert len(errors[0].deadlock.units) == 3


def test_values_of_a_dict_that_wait_for_each_other_are_named(raises):
    made, meet, turns = ConcurrentDict(), standard.Barrier(2), AtomicInt()

    def make(mine, other):
        def compute(_):
            if turns.add() < 2:
                meet.wait(PATIENCE)
            return made.get_or_compute(other, lambda key: f"plain {key}")

        return lambda: made.get_or_compute(mine, compute)

    results = together(make("a", "b"), make("b", "a"))
    assert kinds_of(results) == ["DeadlockError", "ok"]
    assert "a value of a ConcurrentDict at" in str(next(filter(None, results)))


def test_two_onces_that_wait_for_each_other_are_named(raises):
    first, second, meet = Once(), Once(), standard.Barrier(2)

    def make(mine, other):
        return lambda: mine.call(lambda: (meet.wait(PATIENCE), other.call(int)))

    results = together(make(first, second), make(second, first))
    assert kinds_of(results) == ["DeadlockError", "ok"]


def test_a_latch_for_which_everybody_waits_is_named():
    code, out, _ = program("""
        import raddle
        from raddle.sync import Latch
        raddle.on_deadlock = "raise"
        try:
            Latch(1).wait()
        except raddle.DeadlockError as error:
            print(error.deadlock.is_everybody)
    """)
    assert (code, out) == (0, "True\n")


def test_a_lock_whose_holder_has_ended_is_named(raises):
    for made in (Lock(), Lock(fair=True), RLock(), RwLock().write()):
        gone(started(made.acquire))
        with pytest.raises(raddle.DeadlockError):
            made.acquire()


def test_a_lock_that_a_reader_took_along_is_named(raises):
    rw = RwLock()
    gone(started(rw.read().acquire))
    with rw.read():
        pass
    with pytest.raises(raddle.DeadlockError):
        rw.write().acquire()


def test_busy_programs_without_a_deadlock_raise_no_alarm(alarms):
    locks = [Lock(), Lock(fair=True), RLock()]
    rws = [RwLock(prefer=prefer) for prefer in PREFERENCES]
    made, guard = ConcurrentDict(), Once()

    def work(seed):
        dice = random.Random(seed)
        for turn in range(60):
            with locks[0], locks[1], locks[2]:
                pass
            rw = rws[turn % 3]
            if dice.random() < 0.3:
                with rw.write():
                    made.update("n", lambda n: n + 1, 0)
            else:
                with rw.read(), rw.read():
                    made.get_or_compute(dice.randrange(20), str)
            rw.write().acquire(timeout=0.001) and rw.write().release()
            guard.call(lambda: time.sleep(0.01))

    assert kinds_of(together(*[lambda n=n: work(n) for n in range(6)])) == ["ok"] * 6
    assert alarms == []


def test_a_wait_with_a_deadline_is_no_deadlock(alarms):
    rw, lock, meet, answers = RwLock(), Lock(), standard.Barrier(2), []

    def reader():
        with rw.read():
            meet.wait(PATIENCE)
            answers.append(lock.acquire(timeout=0.05))
            meet.wait(PATIENCE)

    def writer():
        with lock:
            meet.wait(PATIENCE)
            answers.append(rw.write().acquire(timeout=0.05))
            meet.wait(PATIENCE)

    assert kinds_of(together(reader, writer)) == ["ok", "ok"]
    assert answers == [False, False]
    assert alarms == []


def test_a_writer_waits_for_many_readers_without_alarm(alarms):
    rw, lock, order = RwLock(), Lock(), []

    def reader():
        with rw.read():
            with lock:
                time.sleep(0.01)
                order.append("read")

    def writer():
        with rw.write():
            order.append("write")

    with rw.read():
        readers = [started(reader) for _ in range(4)]
        until(lambda: order, "a reader")
        writing = started(writer)
        parked(writing)
    for thread in [*readers, writing]:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert sorted(order) == ["read"] * 4 + ["write"]
    assert alarms == []


def test_what_a_thread_waits_for_is_seen():
    rw = RwLock()
    with rw.write():
        thread = started(rw.read().acquire)
        parked(thread)
        life = thread.life
    assert life.waits_for.startswith("an RwLock to read at")
    assert life.held_by == standard.current_thread().name
    thread.join(PATIENCE)


# --- statistics ---------------------------------------------------------------------------------------------------------


@LOCKS
@FAIR
def test_waits_are_counted_and_timed(kind, fair):
    made = kind(fair=fair)
    assert made.statistics() == (0, 0, 0, 0.0, 0.0, 0.0)
    with made:
        pass
    assert made.statistics() == (1, 0, 0, 0.0, 0.0, 0.0)
    with made:
        impatient = started(lambda: made.acquire(timeout=0.01))
        impatient.join(PATIENCE)
        patient = started(lambda: made.acquire() and made.release())
        parked(patient)
        time.sleep(0.02)
    patient.join(PATIENCE)
    statistics = made.statistics()
    assert statistics[:3] == (3, 2, 1)
    assert 0.01 <= statistics.longest_wait <= statistics.total_wait < PATIENCE
    assert statistics.longest_hold >= 0.03


def test_both_sides_of_an_rwlock_are_counted():
    rw = RwLock()
    with rw.read():
        writer = started(lambda: rw.write().acquire() and rw.write().release())
        parked(writer)
        time.sleep(0.02)
    writer.join(PATIENCE)
    reads, writes = rw.statistics()
    assert (reads.acquisitions, reads.contended) == (1, 0)
    assert (writes.acquisitions, writes.contended) == (1, 1)
    assert writes.longest_wait >= 0.02
    assert reads.longest_hold >= 0.02
