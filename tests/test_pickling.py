"""What goes to a worker process and comes back is what it was: values, types, functions, however large."""

from __future__ import annotations

import functools
import math
import multiprocessing
import operator
import pickle
import sys

import pytest

import calls
import raddle

# --- values ---------------------------------------------------------------------------------------------------------

NESTED = ((((((((((1,), 2), 3), 4), 5), 6), 7), 8), 9), 10)

VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63 - 1,
    2**63,
    -(2**63),
    -(2**63) - 1,
    10**400,
    0.0,
    -0.0,
    1.5,
    math.inf,
    -math.inf,
    5e-324,
    1 + 2j,
    "",
    "a",
    "é",
    "日本語",
    "\0",
    "\ud800",
    "before \udcff after",
    "\U0001f9f5",
    b"",
    b"\0\xff",
    bytearray(b"mutable"),
    (),
    (1,),
    (None, True, 1, 1.0, "s", b"b"),
    NESTED,
    tuple(range(255)),
    tuple(range(256)),
    tuple(range(1000)),
    [],
    [1, [2, [3]]],
    {},
    {"a": 1, 2: [3]},
    {1, 2},
    frozenset({1}),
    range(3, 30, 3),
    slice(1, 2),
    ...,
    NotImplemented,
    int,
    ValueError,
    len,
    operator.add,
    calls.add,
    calls.Counter,
]


@pytest.fixture(scope="module")
def one_worker():
    with raddle.Pool("process", 1) as pool:
        yield pool


@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:30])
def test_a_value_goes_there_and_back_unchanged(one_worker, value):
    (back,), named = one_worker.submit(calls.arguments, value, named=value).result()
    for one in (one_worker.submit(calls.identity, value).result(), back, named["named"]):
        assert one == value
        assert type(one) is type(value)
        assert repr(one) == repr(value)


def test_all_values_at_once_through_every_way_into_processes(process_lane):
    with process_lane.make(1) as runner:
        assert repr(runner.submit(calls.identity, VALUES).result()) == repr(VALUES)
        assert repr(list(runner.map(calls.identity, VALUES))) == repr(VALUES)


def test_nan_stays_nan_and_zero_keeps_its_sign(one_worker):
    assert math.isnan(one_worker.submit(calls.identity, math.nan).result())
    assert math.copysign(1, one_worker.submit(calls.identity, -0.0).result()) == -1
    back = one_worker.submit(calls.identity, (math.nan, -0.0)).result()
    assert math.isnan(back[0])
    assert math.copysign(1, back[1]) == -1


@pytest.mark.parametrize(
    "value", [calls.IntLike(5), calls.StrLike("text"), calls.TupleLike((1, 2)), (calls.IntLike(1), "plain")], ids=repr
)
def test_subclasses_of_plain_types_keep_their_type(one_worker, value):
    for back in (one_worker.submit(calls.identity, value).result(), next(one_worker.map(calls.identity, [value]))):
        assert back == value
        assert type(back) is type(value)
        if type(value) is tuple:
            assert type(back[0]) is calls.IntLike


def test_enums_and_named_tuples_keep_their_type(one_worker):
    import enum
    import signal
    import time

    for value in (signal.SIGTERM, time.gmtime(0), enum.Enum, sys.float_info.max, sys.version_info[:3]):
        back = one_worker.submit(calls.identity, value).result()
        assert back == value
        assert type(back) is type(value)


def test_containers_that_contain_themselves(one_worker):
    ring = [1]
    ring.append(ring)
    back = one_worker.submit(calls.identity, ring).result()
    assert back[1] is back
    loop = {}
    loop["self"] = (loop,)
    back = one_worker.submit(calls.identity, loop).result()
    assert back["self"][0] is back


def test_an_object_passed_twice_is_one_object_there(one_worker):
    shared = [1]
    assert one_worker.submit(lambda left, right: left is right, shared, shared).result()
    left, right = one_worker.submit(calls.identity, (shared, shared)).result()
    assert left is right


def test_arguments_are_copies_taken_when_the_call_is_handed_in(one_worker, gate):
    held = one_worker.submit(gate)
    data = [1, 2]
    future = one_worker.submit(calls.identity, data)
    data.append(3)
    gate.open()
    held.result()
    assert future.result() == [1, 2]


def test_a_result_asked_for_twice_is_the_same_object(one_worker):
    future = one_worker.submit(calls.identity, [1])
    assert future.result() is future.result()


def test_deeply_nested_values_that_pickle_cannot_do_fail_their_call_alone(one_worker):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert isinstance(one_worker.submit(calls.identity, deep).exception(30), (RecursionError, pickle.PicklingError))
    assert one_worker.submit(calls.add, 1, 1).result() == 2
    while deep:
        deep = deep[0]


# --- sizes ----------------------------------------------------------------------------------------------------------

K = 1024
SIZES = [0, 1, 2, 15, 16, 17, 21, 22, 23, 63, 64, 255, 256, 4095, 4096, 4097, 64 * K - 1, 64 * K, 64 * K + 1]
EDGES = [16 * K + delta for delta in range(-120, 60, 7)] + [256 * K + delta for delta in range(-200, 60, 37)]


@pytest.mark.parametrize("size", [*SIZES, 1024 * K, 5 * 1024 * K])
def test_bytes_of_this_size_go_there_and_back(one_worker, size):
    data = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    assert one_worker.submit(calls.identity, data).result() == data
    assert one_worker.submit(calls.identity, bytearray(data)).result() == data
    text = "x" * size
    assert one_worker.submit(calls.identity, text).result() == text


def test_sizes_around_every_boundary(one_worker):
    for size in EDGES:
        future = one_worker.submit(calls.identity, bytearray(size))
        plain = one_worker.submit(calls.identity, bytes(size))
        assert len(future.result()) == size
        assert len(plain.result()) == size


def test_sizes_around_every_boundary_in_one_map(one_worker):
    sizes = EDGES * 5
    assert list(one_worker.map(calls.length, (bytes(size) for size in sizes))) == sizes
    assert [len(data) for data in one_worker.map(calls.make_bytes, sizes)] == sizes


def test_a_hundred_megabytes_each_way(process_lane):
    size = 100 << 20
    with process_lane.make(1) as runner:
        assert runner.submit(calls.length, b"x" * size).result() == size
        back = runner.submit(calls.make_bytes, size).result()
        assert len(back) == size
        assert back.count(b"r") == size


def test_many_large_payloads_at_once(process_lane):
    size, count = 1 << 20, 60
    with process_lane.make(2) as runner:
        asked = [runner.submit(calls.check_bytes, bytes([n]) * size, size, bytes([n])) for n in range(count)]
        made = [runner.submit(calls.make_bytes, size) for _ in range(count)]
        both = [runner.submit(calls.double_bytes, bytes([n]) * size) for n in range(count)]
        assert all(future.result(30) for future in asked)
        assert all(future.result(30) == b"r" * size for future in made)
        assert all(future.result(30) == bytes([n]) * size * 2 for n, future in enumerate(both))


def test_large_and_small_payloads_mixed(one_worker):
    sizes = [1 << 20, 3, 100 * K, 0, 17 * K, 300 * K] * 20
    assert [len(data) for data in one_worker.map(calls.make_bytes, sizes)] == sizes
    assert list(one_worker.map(calls.length, (bytes(size) for size in sizes))) == sizes


def test_large_results_that_nobody_has_asked_for_yet(one_worker):
    futures = [one_worker.submit(calls.make_bytes, 2 << 20) for _ in range(40)]
    assert [len(future.result()) for future in reversed(futures)] == [2 << 20] * 40


def test_many_functions(one_worker):
    # More than any table of functions has room for.
    makers = [lambda number=number: number for number in range(3000)]
    assert [one_worker.submit(maker).result() for maker in makers] == list(range(3000))
    assert [one_worker.submit(maker).result() for maker in makers] == list(range(3000))


# --- functions ------------------------------------------------------------------------------------------------------


def test_lambdas_and_closures_work_in_a_pool(pool):
    offset = 10
    assert pool.submit(lambda value: value + offset, 1).result() == 11
    assert list(pool.map(lambda value: value * offset, range(3))) == [0, 10, 20]


def test_a_closure_is_taken_as_it_is_when_the_call_is_handed_in(pool):
    offset = 1

    def add(value):
        return value + offset

    results = []
    for offset in (1, 2, 3, 1, 2, 3, 4):  # noqa: B007  # `add` reads it
        results.append(pool.submit(add, 0).result())
    assert results == [1, 2, 3, 1, 2, 3, 4]


def test_a_mutable_that_a_closure_holds_is_taken_as_it_is_when_the_call_is_handed_in():
    seen = []
    with raddle.Pool("process", 1) as pool:
        counts = []
        for number in range(5):
            seen.append(number)
            counts.append(pool.submit(lambda: len(seen)).result())
    assert counts == [1, 2, 3, 4, 5]


def test_a_default_that_changes_is_taken_as_it_is_when_the_call_is_handed_in():
    def read(box=[0]):  # noqa: B006
        return box[0]

    with raddle.Pool("process", 1) as pool:
        for number in range(4):
            read.__defaults__[0][0] = number
            assert pool.submit(read).result() == number


def test_bound_methods_partials_and_callable_objects_carry_their_state(process_lane):
    with process_lane.make(1) as runner:
        for start in (1, 2, 3, 1):
            counter = calls.Counter(start)
            assert runner.submit(counter.times, 10).result() == start * 10
            assert runner.submit(counter, 5).result() == start + 5
            assert runner.submit(functools.partial(calls.add, start, extra=100), 1).result() == start + 101
            counter.count = 50
            assert runner.submit(counter.times, 2).result() == 100
        assert list(runner.map(calls.Counter(7).times, range(3))) == [0, 7, 14]
        assert list(runner.map(functools.partial(operator.mul, 3), range(3))) == [0, 3, 6]


def test_builtins_classes_and_methods_of_builtins(process_lane):
    with process_lane.make(1) as runner:
        assert runner.submit(len, [1, 2]).result() == 2
        assert runner.submit(str.upper, "abc").result() == "ABC"
        assert runner.submit("-".join, ["a", "b"]).result() == "a-b"
        assert runner.submit([3, 1].__len__).result() == 2
        assert runner.submit(dict, a=1).result() == {"a": 1}
        assert runner.submit(calls.Counter, 3).result().count == 3
        assert runner.submit(math.factorial, 20).result() == math.factorial(20)


def test_a_function_that_is_replaced_under_its_name_is_found_out(one_worker):
    # Two functions, one name: each call runs the one it was given.
    def make(value):
        def same_name():
            return value

        return same_name

    assert [one_worker.submit(make(number)).result() for number in range(5)] == list(range(5))


def test_recursive_and_mutually_recursive_closures(one_worker):
    def even(number):
        return number == 0 or odd(number - 1)

    def odd(number):
        return number != 0 and even(number - 1)

    assert one_worker.submit(even, 10).result() is True
    assert one_worker.submit(odd, 10).result() is False


def test_a_decorated_function(one_worker):
    def twice(fn):
        @functools.wraps(fn)
        def inner(*args):
            return fn(*args) * 2

        return inner

    @twice
    def three():
        return 3

    assert one_worker.submit(three).result() == 6


def test_a_generator_function_can_be_consumed_in_the_worker(one_worker):
    assert one_worker.submit(lambda: sum(number for number in range(10))).result() == 45


def test_a_class_made_on_the_spot_keeps_its_identity_across_the_round_trip(one_worker):
    class Local:
        def __init__(self, value):
            self.value = value

    back = one_worker.submit(calls.identity, Local(3)).result()
    assert isinstance(back, Local)
    assert back.value == 3
    made = one_worker.submit(Local, 4).result()
    assert isinstance(made, Local)


# --- the script itself ----------------------------------------------------------------------------------------------


def test_a_script_without_a_main_guard_uses_its_own_functions_and_classes(script):
    ended = script("""
        import dataclasses, enum, functools
        import raddle

        FACTOR = 3
        print("the script runs once")

        @dataclasses.dataclass
        class Point:
            x: int
            y: int = 0

            def shifted(self, by):
                return Point(self.x + by, self.y)

        class Color(enum.Enum):
            RED = 1

        class Mine(Exception):
            pass

        def scale(point):
            return Point(point.x * FACTOR, point.y * FACTOR)

        def fail():
            raise Mine("own exception")

        def helper(value):
            return scale(Point(value)).x

        pool = raddle.Pool("process", 2)
        point = pool.submit(scale, Point(1, 2)).result()
        assert isinstance(point, Point), type(point)
        assert point == Point(3, 6)
        assert [p.x for p in pool.map(scale, [Point(n) for n in range(5)])] == [0, 3, 6, 9, 12]
        assert pool.submit(Point(1).shifted, 4).result() == Point(5)
        assert pool.submit(Point, 7).result() == Point(7)
        assert pool.submit(helper, 2).result() == 6
        assert pool.submit(functools.partial(scale, Point(1))).result() == Point(3)
        assert pool.submit(lambda: Color.RED).result() is Color.RED
        assert isinstance(pool.submit(fail).exception(), Mine)
        FACTOR = 10
        assert pool.submit(helper, 2).result() == 20, "a global that changed"
        assert pool.submit(scale, Point(1)).result() == Point(10), "a global that changed"
        pool.shutdown()
        print("the end")
    """).run()
    assert (ended.code, ended.out, ended.err) == (0, "the script runs once\nthe end\n", "")


def test_a_script_with_its_own_modules_beside_it(script, tmp_path):
    (tmp_path / "beside.py").write_text("class Thing:\n    pass\ndef make():\n    return Thing()\n")
    ended = script("""
        import raddle, beside
        with raddle.Pool("process", 1) as pool:
            print(isinstance(pool.submit(beside.make).result(), beside.Thing))
    """).run()
    assert ended.out == "True\n", ended.err


def test_workers_see_the_scripts_arguments_and_path(script):
    ended = script("""
        import sys, raddle
        sys.path.append("/somewhere/of/mine")
        with raddle.Pool("process", 1) as pool:
            argv, path = pool.submit(lambda: (__import__("sys").argv, __import__("sys").path)).result()
        print(argv == sys.argv, path == sys.path, argv[1:])
    """).run("one", "two")
    assert ended.out == "True True ['one', 'two']\n", ended.err


def test_the_drop_in_runs_a_script_with_a_main_guard(script):
    ended = script("""
        import multiprocessing, sys
        from raddle.futures import ProcessPoolExecutor

        class Point:
            def __init__(self, x):
                self.x = x

        def make(x):
            return Point(x)

        if __name__ == "__main__":
            for method in ("fork", "spawn", "forkserver"):
                with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
                    print(method, isinstance(executor.submit(make, 3).result(), Point))
    """).run()
    assert ended.out == "fork True\nspawn True\nforkserver True\n", ended.err


def test_a_proxy_of_a_manager_is_an_argument_as_any_other():
    with multiprocessing.Manager() as manager, raddle.Pool("process", 1) as pool:
        queue = manager.Queue()
        pool.submit(calls.append_to_queue, queue, 7).result()
        assert queue.get(timeout=30) == 7


def test_a_manager_may_be_younger_than_the_workers_and_known_to_the_workers_of_workers(script):
    ended = script("""
        import sys, raddle

        def nested(queue):
            with raddle.Pool("process", 1) as pool:
                pool.submit(lambda queue: queue.put("from below"), queue).result()

        with raddle.Pool("process", 1) as pool:
            print(pool.submit(abs, -1).result(), "multiprocessing.process" in sys.modules)
            import multiprocessing
            with multiprocessing.Manager() as manager:
                queue = manager.Queue()
                pool.submit(nested, queue).result()
                print(queue.get(timeout=30))
    """).run()
    assert ended.out == "1 False\nfrom below\n", ended.err
