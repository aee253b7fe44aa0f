"""In which order programs take their locks, as the recorder sees it: what could be a deadlock is told, and nothing else."""

from __future__ import annotations

import pytest

from recorded import Runner, needs_recorder, runner

__all__ = ["runner"]
pytestmark = needs_recorder

FACTS = """
    import threading, os, sys
    a, b, gate = threading.Lock(), threading.Lock(), threading.Lock()
    done = threading.Event()
    def one():
        with a:
            with b: pass
        done.set()
        end.wait()
    def two():
        done.wait()
        with b:
            with a: pass
        end.set()
    end = threading.Event()
    def both():
        threads = [threading.Thread(target=one), threading.Thread(target=two)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
"""


def test_locks_in_opposite_orders(runner: Runner) -> None:
    ran = runner.run(
        FACTS
        + """
    both()
    """
    )
    (fact,) = ran.facts("lock-order")
    assert ran.lines(fact) == [5, 6, 11, 12]
    assert len(fact["units"]) == len(fact["things"]) == 2


def test_what_is_known_of_a_lock_stays_known_among_thousands(runner: Runner) -> None:
    ran = runner.run(
        FACTS
        + """
    def many():
        locks = [threading.Lock() for _ in range(6000)]
        for first, second in zip(locks, locks[1:]):
            with first, second: pass
        del locks[::2]
        for lock in locks:
            with lock: pass
        return locks
    threads = [threading.Thread(target=one), threading.Thread(target=two)]
    with a, b: pass
    left = many()
    threads[0].start(); done.wait(); left += many()
    threads[1].start(); left += many()
    for thread in threads: thread.join()
    with a, b: pass
    """
    )
    assert (ran.code, ran.err) == (0, "")
    (fact,) = ran.facts("lock-order")
    assert len(fact["units"]) == len(fact["things"]) == 2
    # The main thread took both twice, each of the others once.
    assert [ran.session["things"][thing]["taken"] for thing in fact["things"]] == [4, 4]


@pytest.mark.parametrize(
    "clean",
    [
        "def same():\n        end.set(); one(); two()\n    threading.Thread(target=same).start()",
        "for function in (one, two):\n        end.set(); thread = threading.Thread(target=function); thread.start(); thread.join()",
        (
            "def gated(function):\n        with gate: function()\n    end.set()\n"
            "    threads = [threading.Thread(target=gated, args=(function,)) for function in (one, two)]\n"
            "    for thread in threads: thread.start()\n    for thread in threads: thread.join()"
        ),
    ],
    ids=["one thread", "one after the other", "a gate"],
)
def test_orders_that_cannot_meet_are_not_told(runner: Runner, clean: str) -> None:
    ran = runner.run(FACTS + "    " + clean)
    assert (ran.code, ran.err) == (0, "")
    assert ran.session["facts"] == []


ONE_AFTER_THE_OTHER = """
    for function in (one, two):
        thread = threading.Thread(target=function); thread.start()
        if function is one: done.wait()
    for thread in threading.enumerate():
        if thread is not threading.current_thread(): thread.join()
"""


@pytest.mark.parametrize(
    "tries", ["acquire(False)", "acquire(blocking=False)", "acquire(timeout=1)", "acquire(True, 0)"]
)
@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_who_only_tries_cannot_be_stuck(runner: Runner, kind: str, tries: str) -> None:
    ran = runner.run(
        FACTS.replace("Lock(), threading.Lock()", f"{kind}(), threading.{kind}()")
        .replace("with b: pass", f"b.{tries}; b.release()")
        .replace("with a: pass", f"a.{tries}; a.release()")
        + ONE_AFTER_THE_OTHER
    )
    assert (ran.code, ran.err) == (0, "")
    assert ran.facts("lock-order") == []


def test_the_main_thread_is_before_a_thread_that_it_starts_and_not_before_it_any_more(runner: Runner) -> None:
    before = "one(); threading.Thread(target=two).start()"
    ran = runner.run(FACTS + "    end.set(); " + before)
    assert ran.facts("lock-order") == []
    for file in ran.files:
        file.unlink()
    # It walks the same way again while the other one is there.
    ran = runner.run(
        FACTS + "    end.set(); " + before + "; end.clear()\n    with a:\n        with b: pass\n    end.set()"
    )
    assert len(ran.facts("lock-order")) == 1


def test_a_gate_is_one_each_time_or_none(runner: Runner) -> None:
    """Some come through it, and later the same two threads come without."""
    ran = runner.run("""
        import threading
        a, b, gate = threading.Lock(), threading.Lock(), threading.Lock()
        meet = threading.Barrier(2)
        def work(first, second):
            for turn in range(2):
                for mine in range(2):
                    meet.wait()
                    if mine != (first is a): continue
                    if turn == 0: gate.acquire()
                    with first:
                        with second: pass
                    if turn == 0: gate.release()
            meet.wait()
        threads = [threading.Thread(target=work, args=pair) for pair in ((a, b), (b, a))]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """)
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1


@pytest.mark.parametrize("own", [0, 6, 12])
def test_a_gate_is_one_however_many_locks_are_held_before_it(runner: Runner, own: int) -> None:
    ran = runner.run(f"""
        import threading, contextlib
        a, b, gate = threading.Lock(), threading.Lock(), threading.Lock()
        def work(first, second):
            with contextlib.ExitStack() as stack:
                for lock in [threading.Lock() for _ in range({own})] + [gate, first, second]:
                    stack.enter_context(lock)
            meet.wait()
        meet = threading.Barrier(2)
        threads = [threading.Thread(target=work, args=pair) for pair in ((a, b), (b, a))]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """)
    assert (ran.code, ran.err) == (0, "")
    assert ran.facts("lock-order") == []


def test_a_condition_takes_its_lock_again(runner: Runner) -> None:
    """While another one is held, which is an order against that in which they were taken."""
    ran = runner.run("""
        import threading
        inner, condition = threading.Lock(), threading.Condition()
        is_done, end = threading.Event(), threading.Event()
        def wait():
            with condition:
                with inner: condition.wait(0.01)
            is_done.set()
            end.wait()
        threads = [threading.Thread(target=wait) for _ in range(2)]
        for thread in threads:
            thread.start(); is_done.wait(); is_done.clear()
        end.set()
        for thread in threads: thread.join()
    """)
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1


def test_a_forked_child_tells_what_the_parent_has_told(runner: Runner) -> None:
    ran = runner.run(
        FACTS
        + """
    with a:
        with b: pass
    pid = os.fork()
    end.set(); done.set()
    other = threading.Thread(target=two, daemon=False)
    if pid == 0:
        hold = threading.Event()
        def stay():
            two(); hold.wait()
        other = threading.Thread(target=stay); other.start()
        with a:
            with b: pass
        hold.set(); other.join()
    else:
        os.waitpid(pid, 0)
    """
    )
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_a_lock_that_a_child_has_made_new_is_one_as_before(kind: str, runner: Runner) -> None:
    ran = runner.run(
        FACTS
        + f"""
    a, b = threading.{kind}(), threading.{kind}()
    held, enough = threading.Event(), threading.Event()
    def hold():
        with a:
            held.set(); enough.wait()
    holder = threading.Thread(target=hold); holder.start(); held.wait()
    pid = os.fork()
    if pid == 0:
        a._at_fork_reinit()
        both()
    else:
        os.waitpid(pid, 0)
        enough.set(); holder.join()
    """,
        # Later versions warn of forks with threads.
        "-W",
        "ignore::DeprecationWarning",
    )
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1


def test_a_circle_with_a_lock_that_others_release_is_only_noted(runner: Runner) -> None:
    ran = runner.run(
        FACTS
        + """
    both()
    b.acquire()
    releaser = threading.Thread(target=b.release); releaser.start(); releaser.join()
    """
    )
    assert ran.facts("lock-order") == []
    (note,) = ran.session["notes"]
    assert "released by another thread" in note


SEATED = """
    import threading
    forks, turns = [threading.Lock() for _ in range(3)], [threading.Event() for _ in range(4)]
    def dine(place):
        turns[place].wait()
        {sit}
        with forks[place]:
            with forks[(place + 1) % 3]: pass
        {rise}
        turns[place + 1].set(); turns[3].wait()
    {seats}
    threads = [threading.Thread(target=dine, args=(place,)) for place in range(3)]
    for thread in threads: thread.start()
    turns[0].set()
    for thread in threads: thread.join()
"""

OWN_SEMAPHORE = """class Semaphore:
        def __init__(self, value): self.lock = threading.Lock()
        def acquire(self, rc=True):
            with self.lock: pass
        def release(self, n=1):
            with self.lock: pass
    seats = Semaphore(2)"""


@pytest.mark.parametrize(
    ("seats", "sit", "rise", "is_told"),
    [
        ("seats = threading.Semaphore(2)", "seats.acquire()", "seats.release()", False),
        ("seats = threading.BoundedSemaphore(2)", "seats.acquire(timeout=9)", "seats.release()", False),
        ("seats = threading.BoundedSemaphore(value=1)", "seats.acquire()", "seats.release()", False),
        ("seats = threading.Semaphore(4)", "for _ in 'ab': seats.acquire()", "seats.release(2)", False),
        ("seats = threading.Semaphore(3)", "seats.acquire()", "seats.release()", True),
        # Whoever does not get one goes on all the same, and has none.
        (
            "seats = threading.Semaphore(2); seats.acquire(); seats.acquire()",
            "seats.acquire(blocking=False) or seats.acquire(timeout=0.001)",
            "",
            True,
        ),
        # Nor has who has given it back.
        ("seats = threading.Semaphore(2)", "seats.acquire(); seats.release()", "", True),
        # Signals limit nothing, whichever is given first.
        ("seats = threading.Semaphore(0); seats.release(9)", "seats.acquire()", "", True),
        ("seats = threading.Semaphore(1)", "seats.acquire()", "threading.Thread(target=seats.release).start()", True),
        # Nor does a thing of the program's own that is only called so.
        (
            OWN_SEMAPHORE,
            "seats.acquire()",
            "seats.release()",
            True,
        ),
    ],
)
def test_of_those_who_have_permits_there_are_no_more_than_permits(
    runner: Runner, seats: str, sit: str, rise: str, *, is_told: bool
) -> None:
    ran = runner.run(SEATED.format(seats=seats, sit=sit, rise=rise))
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == is_told
    assert ran.session["notes"] == []


def test_permits_of_more_semaphores_than_are_known_make_more_be_told(runner: Runner) -> None:
    ran = runner.run(
        SEATED.format(
            seats="seats = threading.Semaphore(2); more = [threading.Semaphore(5) for _ in range(9)]",
            sit="for one in (*more, seats): one.acquire()",
            rise="for one in (*more, seats): one.release()",
        )
    )
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1


BUFFER = """
    slots, items = threading.Semaphore(8), threading.Semaphore(0)
    def produce():
        for _ in range(40): slots.acquire(); items.release()
    def consume():
        for _ in range(40): items.acquire(); slots.release()
"""

PERMITS = """
    import threading
    a, b, seats = threading.Lock(), threading.Lock(), threading.Semaphore(1)
    def in_turn(*works):
        end, threads = threading.Event(), []
        def run(work, done):
            work(); done.set(); end.wait()
        for work in works:
            done = threading.Event()
            threads.append(threading.Thread(target=run, args=(work, done)))
            threads[-1].start(); done.wait()
        end.set()
        for thread in threads: thread.join()
    def one():
        with a, b: pass
    def two():
        with b, a: pass
    class Other(threading.Semaphore):
        def release(self, n=1):
            with self._cond:
                self._value += n
                self._cond.notify(n)
    class Two(int): pass
    def with_seat(work):
        def sits():
            with seats: work()
        return sits
"""


@pytest.mark.parametrize(
    ("what", "is_told"),
    [
        ("    in_turn(with_seat(one), with_seat(two))", False),
        # Whoever holds a lock while it waits for a permit is in the way of who has one.
        (
            """
    def waits():
        with a, seats, b: pass
    in_turn(waits, with_seat(two))
    in_turn(with_seat(two), waits)
         """,
            True,
        ),
        # What gives permits back that the recorder does not know of.
        (
            """
    seats = Other(1)
    def sat(work):
        with seats: pass
        work()
    in_turn(lambda: sat(one), lambda: sat(two))
         """,
            True,
        ),
        (
            """
    with seats._cond: seats._value += 1
    in_turn(with_seat(one), with_seat(two))
         """,
            True,
        ),
        (
            """
    seats = threading.Semaphore(2)
    def sat(work):
        seats.acquire(); seats.acquire(); seats.release(Two(2))
        work()
    in_turn(lambda: sat(one), lambda: sat(two))
         """,
            True,
        ),
        # What was not given back after all.
        (
            """
    seats = threading.BoundedSemaphore(1)
    def sits(work):
        with seats:
            try: seats.release(2)
            except ValueError: pass
            work()
    in_turn(lambda: sits(one), lambda: sits(two))
         """,
            False,
        ),
        (
            """
    def once(work):
        seats.acquire()
        try: seats.release(1.5)
        except TypeError: pass
        work()
    in_turn(lambda: once(one), lambda: once(two))
         """,
            True,
        ),
        # Who asks for a permit and does not wait is in nobody's way.
        (
            """
    def tries():
        with a:
            if seats.acquire(blocking=False):
                with b: pass
                seats.release()
    in_turn(tries, with_seat(two))
         """,
            False,
        ),
        # A lock that comes where another one was.
        (
            """
    def first():
        global a
        gone = threading.Lock()
        with gone: seats.acquire()
        del gone
        a = threading.Lock()
        one(); seats.release()
    in_turn(first, with_seat(two))
         """,
            False,
        ),
        # Who waits for a permit is in the way of three, too.
        (
            """
    c = threading.Lock()
    def t1():
        with a, seats, b: pass
    def t2():
        with seats, b, c: pass
    def t3():
        with seats, c, a: pass
    in_turn(t1, t2, t3)
         """,
            True,
        ),
        # A permit from nowhere, by who has others of which too many are there to be known.
        (
            """
    others = [threading.Semaphore(5) for _ in range(9)]
    for other in others: other.acquire()
    seats.release()
    in_turn(with_seat(one), with_seat(two))
         """,
            True,
        ),
        # More than can be counted.
        (
            """
    seats = threading.Semaphore(100_000)
    def takes(work):
        for _ in range(33_000): seats.acquire()
        work(); seats.release(33_000)
    in_turn(lambda: takes(one), lambda: takes(two))
         """,
            True,
        ),
        # Signals, before and after.
        (
            BUFFER
            + """
    maker, taker = threading.Thread(target=produce), threading.Thread(target=consume)
    maker.start(); taker.start(); maker.join(); taker.join()
    def makes():
        for _ in range(8): slots.acquire(); items.release()
        with_seat(one)()
    in_turn(makes, with_seat(two))
         """,
            False,
        ),
        (
            BUFFER
            + """
    def makes():
        for _ in range(8): slots.acquire(); items.release()
        with_seat(one)()
    in_turn(makes, with_seat(two), lambda: [slots.release() for _ in range(8)])
         """,
            False,
        ),
    ],
)
def test_what_permits_are_worth(runner: Runner, what: str, *, is_told: bool) -> None:
    ran = runner.run(PERMITS + what)
    assert (ran.code, ran.err) == (0, "")
    assert bool(ran.facts("lock-order")) == is_told
    assert ran.session["notes"] == []


def test_semaphores_without_end_hide_nothing(runner: Runner) -> None:
    ran = runner.run(
        PERMITS
        + """
    c, d = threading.Lock(), threading.Lock()
    for _ in range(140_000):
        with threading.Semaphore(4), c, d: pass
    in_turn(one, two)
    a, b = threading.Lock(), threading.Lock()
    in_turn(with_seat(one), with_seat(two))
    """
    )
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1
    assert ran.session["notes"] == []


def test_a_lock_that_another_thread_has_released_is_not_held(runner: Runner) -> None:
    """Also if thousands of threads have come since, so that the one that took it is not found by its number any more."""
    ran = runner.run(
        FACTS
        + """
    s = [threading.Lock() for _ in range(20)]
    for lock in s: lock.acquire()
    for _ in range(4200):
        thread = threading.Thread(target=int); thread.start(); thread.join()
    for lock in s:
        thread = threading.Thread(target=lock.release); thread.start(); thread.join()
    def other():
        with a:
            with s[0], s[19]: pass
        with b, a: pass
        done.set(); end.wait()
    thread = threading.Thread(target=other); thread.start(); done.wait()
    with a, b: pass
    end.set(); thread.join()
    """
    )
    assert (ran.code, ran.err) == (0, "")
    (fact,) = ran.facts("lock-order")
    assert {ran.line(ran.session["things"][thing]["made"]) for thing in fact["things"]} == {2}


def test_locks_that_are_gone_leave_room_for_others(runner: Runner) -> None:
    ran = runner.run(
        FACTS
        + """
    for _ in range(50_000):
        first, second = threading.Lock(), threading.Lock()
        with first:
            with second: pass
    """
        + ONE_AFTER_THE_OTHER
    )
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.facts("lock-order")) == 1


def test_what_is_not_told_of_orders_is_said(runner: Runner) -> None:
    ran = runner.run("""
        import threading
        for _ in range(140_000):
            first, second = threading.Lock(), threading.Lock()
            with first:
                with second: pass
    """)
    assert (ran.code, ran.err) == (0, "")
    assert any("more orders than could be told" in note for note in ran.session["notes"])


def test_a_lock_that_is_free_again_before_its_taker_knows_of_it_is_not_held(runner: Runner) -> None:
    ran = runner.run("""
        import threading, time
        lock, other, waits, end = threading.Lock(), threading.Lock(), threading.Event(), threading.Event()
        def take():
            waits.set()
            lock.acquire()
            with other: pass
            end.wait()
        def later():
            with other:
                with lock: pass
        lock.acquire()
        thread = threading.Thread(target=take); thread.start()
        waits.wait(); time.sleep(0.05)
        lock.release()
        try:
            lock.release()
        except RuntimeError:
            pass  # up to 3.13 nobody can have been handed it so soon
        else:
            thread = threading.Thread(target=later); thread.start(); thread.join()
        end.set()
    """)
    assert (ran.code, ran.err) == (0, "")
    assert ran.facts("lock-order") == []
