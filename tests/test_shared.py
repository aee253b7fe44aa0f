"""Large buffers: out of band, in shared memory, free when nobody uses them."""

from __future__ import annotations

import array
import gc
import os
import pickle
import signal
import threading

import pytest

import calls
import raddle
from calls import until

np = pytest.importorskip("numpy")

#: Buffers below some kilobytes go with the pickle; the others through a heap.
SIZES = [0, 1, 100, 1023, 1024, 1025, 50_000, 3_000_000]


def heap_memory():
    """Bytes of this process's heap that exist."""
    total = 0
    with open("/proc/self/smaps") as smaps:
        inside = False
        for line in smaps:
            if "-" in line.split()[0] and ":" not in line.split()[0]:
                inside = "raddle-heap" in line
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


# --- arrays as arguments and results ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_arrays_of_every_size_arrive_whole_and_writable(process_lane, size):
    with process_lane.make(1) as runner:
        sent = np.arange(size, dtype=float)
        got = runner.submit(calls.add_one_in_place, sent).result()
        assert (got == np.arange(size) + 1).all()
        assert (sent == np.arange(size)).all(), "an argument is the worker's own"
        assert got.flags.writeable
        assert got.flags.aligned
        got[...] = 0


@pytest.mark.parametrize(
    "sent",
    [
        np.asfortranarray(np.arange(40_000.0).reshape(200, 200)),
        np.arange(80_000.0)[::2],
        np.arange(40_000.0).reshape(200, 200)[10:20],
        np.zeros(9000, dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["x" * 40] * 500),
        np.array([None, {}] * 4000, dtype=object),
        np.arange("2000-01-01", "2030-01-01", dtype="datetime64[D]"),
        [np.zeros(5000), {"a": np.ones(3), "b": np.full((2, 3000), 7)}],
        array.array("d", range(5000)),
        bytearray(50_000),
        b"x" * 1_000_000,
    ],
    ids=lambda sent: type(sent).__name__,
)
def test_what_pickle_knows_comes_back_equal(process_lane, sent):
    with process_lane.make(1) as runner:
        got = runner.submit(calls.identity, sent).result()
        assert type(got) is type(sent)
        np.testing.assert_equal(got, sent)


def test_an_array_that_is_read_only_stays_so(process_lane):
    sent = np.arange(50_000.0)
    sent.flags.writeable = False
    with process_lane.make(1) as runner:
        assert runner.submit(calls.is_writable, sent).result() is False
        assert not runner.submit(calls.identity, sent).result().flags.writeable


def test_arrays_in_keywords_by_value_functions_and_maps():
    with raddle.Pool("process", 2) as pool:
        big = np.arange(20_000.0)
        assert pool.submit(lambda *, values: float(values.sum()), values=big).result() == big.sum()
        results = pool.map(lambda values, factor: values * factor, [big] * 40, range(40))
        assert [float(result[1]) for result in results] == list(range(40))


def test_one_array_named_twice_arrives_as_one():
    with raddle.Pool("process", 1) as pool:
        big = np.zeros(20_000)
        assert pool.submit(lambda a, b: a is b, big, big).result() is True


def test_a_worker_that_keeps_its_argument_keeps_its_own():
    # What it returned and what it kept are two: nobody sees the other's changes.
    with raddle.Pool("process", 1) as pool:
        got = pool.submit(calls.keep, np.zeros(20_000)).result()
        got[...] = 1
        more = [pool.submit(calls.identity, np.full(20_000, 7.0)).result() for _ in range(20)]
        assert pool.submit(calls.sum_of_kept).result() == 0
        assert all((array == 7).all() for array in more)


# --- how long memory lives -------------------------------------------------------------------------------------------


def test_a_result_lives_as_long_as_its_last_view():
    with raddle.Pool("process", 1) as pool:
        first = pool.submit(calls.filled, 100_000, 1.0).result()
        part = first[500:510]
        del first
        others = [pool.submit(calls.filled, 100_000, 2.0).result() for _ in range(10)]
        assert (part == 1).all()
        assert all((other == 2).all() for other in others)
    del others
    assert (part == 1).all(), "it outlives the worker and the pool"


def test_results_outlive_a_worker_that_is_killed():
    with raddle.Pool("process", 1) as pool:
        got = pool.submit(calls.filled, 100_000, 3.0).result()
        os.kill(pool.submit(os.getpid).result(), signal.SIGKILL)
        pool.submit(calls.filled, 100_000, 4.0).exception()
        again = pool.submit(calls.filled, 100_000, 4.0).result()
        assert (got == 3).all()
        assert (again == 4).all()


def test_memory_is_used_again():
    with raddle.Pool("process", 2) as pool:
        big = np.zeros(1 << 20)
        for _ in range(5):
            pool.submit(calls.identity, big).result()
        before = heap_memory()
        for _ in range(100):
            pool.submit(calls.identity, big).result()
        assert heap_memory() <= before + 3 * big.nbytes


def test_memory_of_calls_that_never_ran_is_free(gate):
    big = np.zeros(1 << 18)
    with raddle.Pool("process", 1) as pool:
        held = pool.submit(gate)
        gate.wait_entered()
        for _ in range(20):
            waiting = [pool.submit(calls.identity, big) for _ in range(5)]
            assert all(future.cancel() for future in waiting)
        assert heap_memory() < 40 * big.nbytes
        gate.open()
        held.result()


def test_what_a_killed_worker_had_is_free():
    big = np.zeros(1 << 20)
    with raddle.Pool("process", 1) as pool:
        for _ in range(10):
            assert isinstance(pool.submit(calls.keep_and_die, big).exception(), raddle.WorkerDied)
        assert heap_memory() <= 5 * big.nbytes


def test_a_file_descriptor_is_not_needed_per_array():
    with raddle.Pool("process", 1) as pool:
        pool.submit(calls.identity, np.zeros(5000)).result()
        before = len(os.listdir("/proc/self/fd"))
        kept = [pool.submit(calls.identity, np.zeros(5000)).result() for _ in range(50)]
        assert len(os.listdir("/proc/self/fd")) == before
        assert len(kept) == 50


def test_threads_send_arrays_at_once():
    failures = []

    def send(number):
        for size in (10, 5000, 200_000):
            got = pool.submit(calls.add_one_in_place, np.full(size, float(number))).result()
            if not (got == number + 1).all():
                failures.append((number, size))

    with raddle.Pool("process", 2) as pool:
        threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert failures == []


# --- raddle.shared ---------------------------------------------------------------------------------------------------


def test_a_shared_array_is_the_same_memory_in_every_process():
    with raddle.Pool("process", 2) as pool:
        shared = raddle.shared.zeros((100, 300))
        pool.submit(calls.add_one_in_place, shared).result()
        assert (shared == 1).all()
        pool.submit(calls.add_one_in_place, shared[10:20]).result()
        assert (shared[10:20] == 2).all()
        assert (shared[20:] == 1).all()
        back = pool.submit(calls.identity, shared).result()
        back[0, 0] = 5
        assert shared[0, 0] == 5
        assert np.shares_memory(back, shared) or back.__array_interface__["data"] != shared.__array_interface__["data"]


def test_a_small_shared_array_is_shared_as_well():
    with raddle.Pool("process", 1) as pool:
        shared = raddle.shared.zeros(3)
        pool.submit(calls.add_one_in_place, shared).result()
        assert shared.tolist() == [1, 1, 1]


def test_a_worker_makes_shared_arrays_too():
    with raddle.Pool("process", 1) as pool:
        made = pool.submit(lambda: raddle.shared.full(50_000, 3.0)).result()
        assert (made == 3).all()
        made[0] = 1


def test_what_the_functions_make():
    assert raddle.shared.empty(5).shape == (5,)
    assert raddle.shared.empty((), int).shape == ()
    assert raddle.shared.zeros((0, 3)).size == 0
    assert raddle.shared.zeros((2, 3), order="F").flags.f_contiguous
    assert raddle.shared.full((2, 2), 7).tolist() == [[7, 7], [7, 7]]
    assert raddle.shared.full(2, 7, "f4").dtype == np.float32
    copied = raddle.shared.asarray([[1, 2], [3, 4]])
    assert copied.tolist() == [[1, 2], [3, 4]]
    assert raddle.shared.asarray(copied) is copied
    assert raddle.shared.asarray(copied[1:]).base is not None
    with pytest.raises(TypeError, match="Python objects"):
        raddle.shared.zeros(3, object)
    with pytest.raises(ValueError, match="shape"):
        raddle.shared.zeros((-1, 3))
    with pytest.raises(MemoryError, match="no room"):
        raddle.shared.empty(1 << 50)


def test_a_shared_array_that_was_freed_is_zeros_again():
    for _ in range(3):
        shared = raddle.shared.zeros(100_000)
        assert not shared.any()
        shared[...] = 1
        del shared


def test_a_buffer_needs_no_numpy():
    block = raddle.shared.Buffer(10)
    assert (len(block), bytes(block)) == (10, bytes(10))
    assert "10 bytes" in repr(block)
    with raddle.Pool("process", 1) as pool:
        back = pool.submit(calls.write_first, block, 7).result()
        assert bytes(block)[0] == 7
        memoryview(back)[1] = 8
        assert bytes(block)[:2] == b"\x07\x08"
    copy = pickle.loads(pickle.dumps(block, 5))
    assert bytes(copy) == bytes(block)
    with pytest.raises(TypeError, match="protocol=5"):
        pickle.dumps(block, 4)
    with pytest.raises(OverflowError):
        raddle.shared.Buffer(-1)


# --- Pool.put --------------------------------------------------------------------------------------------------------


def test_a_call_that_names_a_ref_gets_the_object(pool):
    value = {"table": np.arange(50_000.0), "name": "t"}
    ref = pool.put(value)
    assert pool.submit(calls.item_of, ref, "name").result() == "t"
    assert list(pool.map(calls.item_of, [ref] * 3, ["name"] * 3)) == ["t"] * 3
    assert (pool.submit(calls.item_of, ref, "table").result() == value["table"]).all()
    assert ref.value["name"] == "t"
    assert "dict" in repr(ref)


def test_every_worker_makes_the_object_once_and_reads_the_same_memory():
    with raddle.Pool("process", 2) as pool:
        ref = pool.put(np.arange(100_000.0))
        seen = set(pool.map(calls.pid_and_identity, [ref] * 3000))
        assert len(seen) <= 2
        assert pool.submit(calls.is_writable, ref).result() is False
        with pytest.raises(ValueError, match="read-only"):
            pool.submit(calls.add_one_in_place, ref).result()
        assert not ref.value.flags.writeable


def test_refs_inside_arguments_are_objects_on_processes():
    with raddle.Pool("process", 1) as pool:
        ref = pool.put([1, 2])
        assert pool.submit(calls.identity, {"deep": ref}).result() == {"deep": [1, 2]}


def test_workers_let_go_of_an_object_when_its_ref_is_gone():
    with raddle.Pool("process", 1) as pool:
        before = heap_memory()
        for _ in range(10):
            ref = pool.put(np.zeros(1 << 20))
            assert pool.submit(calls.is_writable, ref).result() is False
            del ref
            gc.collect()
        until(lambda: pool.submit(calls.kept_refs).result() == 0, "the worker to forget")
        assert heap_memory() - before <= 4 << 23


def test_what_cannot_be_put_is_said_at_once():
    with raddle.Pool("process", 1) as pool, pytest.raises(TypeError):
        pool.put(threading.Lock())


def test_a_ref_of_threads_cannot_be_sent():
    with raddle.Pool("thread", 1) as pool:
        ref = pool.put([1])
        with pytest.raises(TypeError, match="threads"):
            pickle.dumps(ref)


def test_what_is_empty_can_be_put():
    with raddle.Pool("process", 1) as pool:
        ref = pool.put({"none": np.zeros(0), "some": np.zeros(5000)})
        assert ref.value["none"].size == 0
        assert pool.submit(calls.item_of, ref, "none").result().size == 0


def test_refs_of_different_pools_are_never_mixed_up():
    with raddle.Pool("process", 1) as one, raddle.Pool("process", 1) as other:
        refs = [one.put(["one"]), other.put(["other"])]
        for pool in (one, other):
            assert [pool.submit(calls.identity, ref).result() for ref in refs] == [["one"], ["other"]]
        nested = one.submit(calls.through_a_pool_of_its_own, refs[0]).result()
        assert nested == (["one"], ["nested"])


# --- how much --------------------------------------------------------------------------------------------------------


@pytest.fixture
def little_room():
    raddle.shared.limit(16 << 20)
    yield
    raddle.shared.limit(1 << 30)


def test_submit_waits_for_room_instead_of_filling_the_memory(little_room):
    big = np.zeros(1 << 18)  # two megabytes
    with raddle.Pool("process", 2) as pool:
        most = 0
        futures = []
        for _ in range(200):
            futures.append(pool.submit(calls.is_writable, big))
            most = max(most, raddle.shared.in_use())
        assert all(future.result(30) for future in futures)
        assert most <= (16 << 20) + big.nbytes
    assert raddle.shared.in_use() <= big.nbytes


def test_many_threads_wait_for_room(little_room):
    big = np.zeros(1 << 18)
    done = []

    def send():
        futures = [pool.submit(calls.is_writable, big) for _ in range(40)]
        done.append(all(future.result(30) for future in futures))

    with raddle.Pool("process", 2) as pool:
        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert done == [True] * 6


def test_nobody_waits_for_room_that_only_the_program_can_make(little_room):
    kept = raddle.shared.zeros(5 << 20)  # forty megabytes, above the limit by itself
    with raddle.Pool("process", 1) as pool:
        assert pool.submit(calls.is_writable, np.zeros(1 << 18)).result(30)
        big = [pool.submit(calls.keep, np.zeros(1 << 18)) for _ in range(20)]
        assert all(future.result(30) is not None for future in big)
    assert kept.nbytes > 16 << 20


def test_one_that_is_larger_than_the_limit_goes_through_alone(little_room):
    with raddle.Pool("process", 2) as pool:
        huge = np.ones(3 << 20)
        assert [pool.submit(calls.sum_of, huge).result(30) for _ in range(3)] == [3 << 20] * 3


def test_a_callback_may_submit_when_there_is_no_room(little_room):
    big = np.zeros(1 << 18)
    heard = []
    with raddle.Pool("process", 1) as pool:
        for _ in range(20):
            first = pool.submit(calls.is_writable, big)
            first.add_done_callback(lambda _: heard.append(pool.submit(calls.is_writable, big)))
        until(lambda: len(heard) == 20, "the callbacks")
        assert all(future.result(30) for future in heard)


def test_a_limit_below_nothing_is_an_error():
    with pytest.raises(ValueError, match="0 or more"):
        raddle.shared.limit(-1)
