"""Functions of a script are pickled once, and nobody can tell: whatever changes is what the next call sees."""

from __future__ import annotations

import pytest

PRELUDE = """
import dataclasses, functools, typing
import raddle

RUNS = 16   # after some, its marks are believed, and it goes by its number

def same(pool, fn, *args):
    '''Whether a worker gives what this process gives, again and again.'''
    here = fn(*args)
    for run in range(RUNS):
        there = pool.submit(fn, *args).result(30)
        assert there == here, (fn, args, here, there, run)
    return here
"""

CHANGES = {
    "a constant of the script": ("K = 1\ndef f(): return K", "K = 2", "f"),
    "a constant that was missing": (
        "globals().pop('K', 0)\ndef f(): return K if 'K' in globals() else 1",
        "K = 2",
        "f",
    ),
    "a constant that helpers use": ("K = 1\ndef g(): return K\ndef f(): return g()", "K = 2", "f"),
    "a helper": ("def g(): return 1\ndef f(): return g()", "def g(): return 2", "f"),
    "a default": ("def f(x=1): return x", "f.__defaults__ = (2,)", "f"),
    "a keyword's default": ("def f(*, x=1): return x", "f.__kwdefaults__['x'] = 2", "f"),
    "the code": ("def f(): return 1\ndef g(): return 2", "f.__code__ = g.__code__", "f"),
    "an attribute of a function": ("def f(): return f.x\nf.x = 1", "f.x = 2", "f"),
    "a new attribute of a function": ("def f(): return getattr(f, 'x', 1)", "f.x = 2", "f"),
    "a list that is changed": ("L = [1]\ndef f(): return list(L)", "L.append(2)", "f"),
    "a closure": (
        "def make():\n x = 1\n def f(): return x\n def put(v):\n  nonlocal x\n  x = v\n return f, put\nf, put = make()",
        "put(2)",
        "f",
    ),
    "an object in a tuple": ("class O: x = 1\nT = (O,)\ndef f(): return T[0].x", "O.x = 2", "f"),
    "an attribute of a class": ("class C:\n K = 1\ndef f(c): return c.K", "C.K = 2", "f", "C()"),
    "an equal attribute of another type": ("class C:\n K = 1\ndef f(c): return repr(c.K)", "C.K = True", "f", "C()"),
    "a new attribute of a class": ("class C: pass\ndef f(c): return getattr(c, 'K', 1)", "C.K = 2", "f", "C()"),
    "a method": ("class C:\n def m(self): return 1\ndef f(c): return c.m()", "C.m = lambda self: 2", "f", "C()"),
    "what a method uses": ("K = 1\nclass C:\n def m(self): return K\ndef f(c): return c.m()", "K = 2", "f", "C()"),
    "what a property uses": (
        "K = 1\nclass C:\n @property\n def m(self): return K\ndef f(c): return c.m",
        "K = 2",
        "f",
        "C()",
    ),
    "what a static method uses": (
        "K = 1\nclass C:\n @staticmethod\n def m(): return K\ndef f(c): return c.m()",
        "K = 2",
        "f",
        "C()",
    ),
    "a base": ("class B: x = 1\nclass C(B): pass\ndef f(c): return c.x", "B.x = 2", "f", "C()"),
    "a class inside of a class": ("class C:\n class D: x = 1\ndef f(c): return c.D.x", "C.D.x = 2", "f", "C()"),
    "a list of a class": ("class C:\n L = [1]\ndef f(c): return list(c.L)", "C.L.append(2)", "f", "C()"),
    "a metaclass": (
        "class M(type):\n def m(cls): return 1\nclass C(metaclass=M): pass\ndef f(c): return type(c).m()",
        "M.m = lambda cls: 2",
        "f",
        "C()",
    ),
    "a class of the same name": (
        "class C:\n def m(self): return 1\ndef f(c): return c.m()",
        "class C:\n def m(self): return 2",
        "f",
        "C()",
    ),
    "a dataclass": (
        "@dataclasses.dataclass\nclass C:\n x: int = 1\n def m(self): return self.x\ndef f(c): return c.m()",
        "C.m = lambda self: -self.x",
        "f",
        "C()",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_by_the_next_call_and_so_is_the_way_back(script, change):
    made, changed, *call = CHANGES[change]
    source = f"""{PRELUDE}
{made}
with raddle.Pool("process", 1) as pool:
    before = same(pool, {", ".join(call)})
    exec({changed!r})
    after = same(pool, {", ".join(call)})
    assert before != after, "the test changes something"
    exec({made!r})
    assert same(pool, {", ".join(call)}) == before
    exec({changed!r})
    assert same(pool, {", ".join(call)}) == after
"""
    ended = script(source).run()
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def run(script, source):
    ended = script(PRELUDE + source).run()
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_function_that_stays_as_it_is_is_not_pickled_again(script):
    run(
        script,
        """
from unittest import mock
from raddle import _by_value
import math

K = 3
def helper(x: list[int], *, y: "int" = 2) -> int | None: return len(x) + K + y
def f(x): return helper(x) + math.floor(1.5)
def g(x): return [f([n]) for n in range(x)]

with raddle.Pool("process", 1) as pool:
    same(pool, f, [1])
    same(pool, g, 3)
    with mock.patch.object(_by_value, "dumps_by_value", side_effect=AssertionError):
        assert same(pool, f, [1]) == 7
        assert same(pool, g, 3) == [7, 7, 7]
""",
    )


def test_workers_that_come_later_and_workers_of_workers_have_it_too(script):
    run(
        script,
        """
@dataclasses.dataclass
class P:
    x: int
def double(p): return P(2 * p.x)
def inside(p):
    with raddle.Pool("process", 1) as pool:
        return [pool.submit(double, p).result(30) for _ in range(RUNS)]

with raddle.Pool("process", 2, max_tasks_per_child=1) as pool:
    assert list(pool.map(double, map(P, range(12)))) == [P(2 * n) for n in range(12)]
with raddle.Pool("process", 1) as pool:
    for _ in range(RUNS):
        assert pool.submit(inside, P(3)).result(30) == [P(6)] * RUNS
""",
    )


def test_a_class_that_goes_by_value_elsewhere_does_not_spoil_the_one_that_is_named(script):
    run(
        script,
        """
class P:
    K = 1
    def k(self): return self.K
BAG = []                                    # whatever names it goes by value, and its classes with it
def k_of(p): return p.k()
def with_bag(p): return p.k(), len(BAG)

with raddle.Pool("process", 1) as pool:
    for round in range(8):
        P.K = round % 2                     # the same two objects in turn
        assert pool.submit(k_of, P()).result(30) == P.K
        assert pool.submit(with_bag, P()).result(30) == (P.K, 0)
        P.K = 7
        assert pool.submit(with_bag, P()).result(30) == (7, 0)
        P.K = round % 2
        assert pool.submit(k_of, P()).result(30) == P.K
        assert pool.submit(lambda p: p.k(), P()).result(30) == P.K
""",
    )


def test_calls_have_what_was_true_when_they_were_handed_in_in_whatever_order_they_run(script):
    run(
        script,
        """
class P:
    K = 0
    def k(self): return self.K
def k_of(p): return p.k()

with raddle.Pool("process", 2) as pool:
    for _ in range(RUNS):
        pool.submit(k_of, P()).result(30)
    futures = []
    for number in range(300):
        P.K = number // 100
        futures.append((P.K, pool.options(priority=number % 3).submit(k_of, P())))
    for expected, future in futures:
        assert future.result(30) == expected
""",
    )


def test_large_arrays_in_objects_of_the_script_are_not_pickled(script):
    run(
        script,
        """
import numpy as np
@dataclasses.dataclass
class Image:
    name: str
    pixels: typing.Any
def pinned(image): return image.pixels.sum(), image.pixels.flags.owndata

with raddle.Pool("process", 1) as pool:
    image = Image("a", np.ones(1_000_000))
    for _ in range(RUNS):
        total, owns = pool.submit(pinned, image).result(30)
        assert total == 1_000_000 and not owns
""",
    )


def test_an_exception_of_the_script_keeps_its_type_and_parts(script):
    run(
        script,
        """
class Mine(Exception):
    def __init__(self, number, *, hint="none"):
        super().__init__(number)
        self.hint = hint
def fail(number): raise Mine(number, hint="h")

with raddle.Pool("process", 1) as pool:
    for number in range(RUNS + 2):
        error = pool.submit(fail, number).exception(30)
        assert type(error) is Mine and error.args == (number,) and error.hint == "h", error
""",
    )


def test_modules_that_go_by_value_are_not_looked_into(script, tmp_path):
    (tmp_path / "beside.py").write_text("K = 1\ndef k(): return K\n")
    run(
        script,
        """
import beside, cloudpickle
cloudpickle.register_pickle_by_value(beside)
def f(): return beside.k()
with raddle.Pool("process", 1) as pool:
    assert same(pool, f) == 1
    beside.K = 2
    assert pool.submit(f).result(30) in (1, 2)  # cloudpickle finds functions by value, and modules by name
    cloudpickle.unregister_pickle_by_value(beside)
""",
    )


def test_functions_that_write_to_globals_keep_to_themselves_as_before(script):
    run(
        script,
        """
N = 0
def count():
    global N
    N += 1
    return N
with raddle.Pool("process", 1) as pool:
    assert all(pool.submit(count).result(30) >= 1 for _ in range(RUNS))
    N = 10
    assert pool.submit(count).result(30) == 11
""",
    )


def test_classes_with_slots_have_them_on_both_sides(script):
    run(
        script,
        """
@dataclasses.dataclass(slots=True)
class P:
    x: int
@dataclasses.dataclass(slots=True, kw_only=True)
class Q(P):
    y: int = 2
@dataclasses.dataclass(slots=True, frozen=True)
class F:
    x: int
class S:
    __slots__ = ("a", "__weakref__")
    def __init__(self, a): self.a = a
    def __eq__(self, other): return self.a == other.a
def again(value): return value, hasattr(value, "__dict__")

with raddle.Pool("process", 1) as pool:
    for value in (P(1), Q(1), F(1), S(1)):
        for _ in range(RUNS):
            assert pool.submit(again, value).result(30) == (value, False)
""",
    )


def test_what_else_a_script_has_goes_by_value_as_before(script):
    run(
        script,
        """
import abc

@functools.lru_cache
def cached(x): return 2 * x
def uses_cached(x): return cached(x)
def lost(): return 1
lost.__module__ = None

class Base(abc.ABC):
    @abc.abstractmethod
    def go(self): ...
class Has(Base):
    def go(self): return 1
class Has_not:
    def go(self): return 1
# It names the registered class: a worker's copy of an abstract class keeps only weak references to what is registered with it.
def asked(value): return Has_not and value.go(), isinstance(value, Base)

with raddle.Pool("process", 1) as pool:
    assert same(pool, cached, 3) == same(pool, uses_cached, 3) == 6
    assert same(pool, lost) == 1
    assert same(pool, asked, Has()) == (1, True)
    assert same(pool, asked, Has_not()) == (1, False)
    Base.register(Has_not)
    assert same(pool, asked, Has_not()) == (1, True)
    assert same(pool, asked, Has()) == (1, True)
""",
    )
