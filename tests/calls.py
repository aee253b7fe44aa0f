"""What the tests have workers do. A module of its own, so that a worker process can import it by name."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

#: Nothing that a test waits for takes longer, even on a busy machine.
PATIENCE = 30.0


def until(condition, what="the condition", patience=PATIENCE):
    """Waits until `condition()` is true, and returns its value."""
    deadline = time.monotonic() + patience
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience} s in vain for {what}")
        time.sleep(0.002)
    return found


def pid_in(path):
    """The number that a call has written into a file."""
    return int(until(lambda: path.exists() and path.read_text(), "the call to run"))


def is_gone(pid):
    """Whether a process has ended, collected or not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Gate:
    """Holds calls back until the test opens it, in whatever thread or process they run. Picklable."""

    def __init__(self, directory, name="gate"):
        self.path = str(Path(directory) / name)
        os.makedirs(self.path, exist_ok=True)

    def open(self):
        """Lets everybody through."""
        Path(self.path, "open").touch()

    def entered(self):
        """How many calls have come to the gate."""
        return sum(name.startswith("entered") for name in os.listdir(self.path))

    def wait_entered(self, count=1):
        """Waits until `count` calls have come to the gate. Opens it if they do not: nobody is to wait for a failed test."""
        try:
            until(lambda: self.entered() >= count, f"{count} calls at the gate", patience=10)
        except AssertionError:
            self.open()
            raise

    def __call__(self, value=None):
        Path(self.path, f"entered-{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}").touch()
        until(lambda: os.path.exists(os.path.join(self.path, "open")), "the gate to open", patience=10)
        return value


def identity(value=None):
    return value


_buffer = bytearray(4)


def reused_buffer(number):
    _buffer[:] = number.to_bytes(4, "big")
    return _buffer


def first(values):
    return values[0]


def append_and_count(values):
    values.append(1)
    return len(values)


def lock_at(number):
    return threading.Lock() if number == 5000 else number


def explodes_at(number):
    return Explodes() if number == 5000 else number


class Interrupts:
    """Pickling it is where the user presses Ctrl-C."""

    def __reduce__(self):
        raise KeyboardInterrupt


def raise_interrupt(number):
    raise KeyboardInterrupt


def fork_and_come_back(number, log):
    with open(log, "a") as file:
        file.write(f"{number}\n")
    if number == 100:
        child = os.fork()
        if child:
            os.waitpid(child, 0)
    return number


class Mishap(Exception):
    """An exception that can be referred to weakly."""


def mishap_at_5000(number):
    if number == 5000:
        raise Mishap(number)
    return number


def crash_deep_inside():
    def the_culprit():
        import ctypes

        ctypes.string_at(0)

    the_culprit()


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_and_sleep():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def sleep_in_a_child(path):
    import subprocess

    child = subprocess.Popen(["sleep", "60"])
    path.with_suffix(".new").write_text(str(child.pid))
    path.with_suffix(".new").rename(path)
    child.wait()


def sleep_in_a_stubborn_child(path):
    """The child ignores SIGTERM, and so says; this process does not."""
    import subprocess

    script = f"trap '' TERM; echo $$ >{path}.new; mv {path}.new {path}; while sleep 1; do :; done"
    subprocess.Popen(["sh", "-c", script]).wait()


def nap_if_5(number):
    if number == 5:
        time.sleep(60)
    return number


def nap_and_log(number, directory):
    time.sleep(0.2)
    Path(directory, str(number)).touch()
    return number


def _attempt(log):
    with open(log, "a") as file:
        file.write("x")
    return len(Path(log).read_text())


def die_until(log, attempts):
    if (number := _attempt(log)) < attempts:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def log_and_fail(log):
    _attempt(log)
    raise ValueError("no")


def spoil_and_die_once(values, log):
    found = float(values.sum())
    values += 1
    if _attempt(log) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return found


def nap_and_return(value):
    time.sleep(0.005)
    return value


class Counted:
    """Knows how many of it there are."""

    alive = 0

    def __init__(self, number):
        type(self).alive += 1

    def __del__(self):
        type(self).alive -= 1


def add_one_in_place(values):
    values += 1
    return values


def is_writable(values):
    return values.flags.writeable


def first_and_size(values):
    view = memoryview(values).cast("B").cast("d")
    return (view[0] if len(view) else None), len(view)


def halve(number):
    return number / 2


def sum_of(values):
    return values.sum()


def filled(size, value):
    import numpy

    return numpy.full(size, value)


_kept = []


def keep(values):
    _kept.append(values)
    return values


def sum_of_kept():
    return float(sum(values.sum() for values in _kept))


def keep_and_die(values):
    keep(values)
    os.kill(os.getpid(), signal.SIGKILL)


def write_first(block, value):
    memoryview(block)[0] = value
    return block


def item_of(mapping, key):
    return mapping[key]


def pid_and_identity(value):
    return os.getpid(), id(value)


def through_a_pool_of_its_own(value):
    import raddle

    with raddle.Pool("process", 1) as pool:
        ref = pool.put(["nested"])
        return value, pool.submit(identity, ref).result()


def kept_refs():
    import raddle_boot

    return len(raddle_boot._refs._made)


def nap_and_pid(seconds):
    time.sleep(seconds)
    return os.getpid()


def slow_then_meet(value, gate):
    """Returns `value`; 1500 takes long, and then 1510 and 1511 wait for each other.

    They do not when 1500 has not returned yet: then the two are in another batch, where nothing was slow before them.
    """
    slow = Path(gate.path, "slow")
    if value == 1500:
        time.sleep(0.2)
        slow.touch()
    if value in (1510, 1511):
        Path(gate.path, f"entered-{value}").touch()
        if slow.exists():
            until(lambda: gate.entered() == 2, "the other one", patience=10)
    return value


def add(left, right=0, *, extra=0):
    return left + right + extra


def arguments(*args, **kwargs):
    return args, kwargs


def fail(message="bad"):
    raise ValueError(message)


def fail_if(value, bad):
    if value == bad:
        raise ValueError(value)
    return value


def pid(_=None):
    return os.getpid()


def append_to_queue(queue, value):
    queue.put(value)


def apply(fn, *args):
    return fn(*args)


def make_bytes(count):
    return b"r" * count


def length(data):
    return len(data)


def check_bytes(data, count, byte):
    """Says whether `data` is `count` times `byte`, without sending it back."""
    return data == byte * count


def double_bytes(data):
    return data + data


def write(path, text):
    Path(path).write_text(text)


def touch(path):
    Path(path).touch()


def append(path, text):
    with open(path, "a") as file:
        file.write(text)


def exit_now(code):
    os._exit(code)


def sys_exit(code):
    sys.exit(code)


def interrupt():
    raise KeyboardInterrupt


def signal_self(number):
    os.kill(os.getpid(), number)
    signal.pause()


def segfault():
    import ctypes

    # Without the core file and without the text that the fault handler would write.
    import faulthandler
    import resource

    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.string_at(0)


def touch_and_sleep(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(3600)


def result_that_cannot_be_pickled():
    return threading.Lock()


class Unpicklable:
    """Says so in its own words."""

    def __reduce__(self):
        raise TypeError("this one stays here")


class UnpicklableError(Exception):
    """An exception that holds something unpicklable."""

    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class OddError(Exception):
    """Pickles, and cannot be made again: its constructor wants more than `args` has."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")
        self.first = first
        self.second = second


class GoodError(Exception):
    """Has state besides `args`."""

    def __init__(self, message):
        super().__init__(message)
        self.detail = {"seen": [1, 2]}


def raise_unpicklable():
    raise UnpicklableError("locked in")


def raise_odd():
    raise OddError("one", "two")


def raise_good():
    error = GoodError("with detail")
    error.add_note("a note from the worker")
    raise error


def raise_chained():
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise RuntimeError("the effect") from error


class Explodes:
    """Pickles, and raises when it is unpickled."""

    def __reduce__(self):
        return _explode, ()


def _explode():
    raise ArithmeticError("exploded while unpickling")


def make_explodes():
    return Explodes()


class Counter:
    """A callable object with state, and a method to be bound."""

    def __init__(self, start):
        self.count = start

    def __call__(self, step):
        return self.count + step

    def times(self, factor):
        return self.count * factor


class IntLike(int):
    """An int that is not an int."""


class StrLike(str):
    """A str that is not a str."""

    __slots__ = ()


class TupleLike(tuple):
    """A tuple that is not a tuple."""

    __slots__ = ()


def refuse_to_start(message):
    raise ValueError(message)


_initialized = []


def initialize(value):
    _initialized.append(value)


def initialized():
    return list(_initialized)


def nap_and_initialized(seconds):
    return nap_and_pid(seconds), initialized()


def thread_name():
    return threading.current_thread().name


def fork_and_return():
    """Forks. Parent and child both come back."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return os.getpid()


def print_lines(first, count):
    for number in range(first, first + count):
        print(f"line {number}")
    return first


def endless_recursion():
    return endless_recursion()


class OwnBase(BaseException):
    """An exception that `except Exception` does not catch."""


def raise_base():
    raise OwnBase("mine")


def pid_and_thread():
    return os.getpid(), threading.get_ident()


def nap_and_tell(seconds):
    time.sleep(seconds)
    return pid_and_thread()


def raise_timeout(_=None):
    raise TimeoutError("of its own")


def note_and_fail_from_2(number, directory):
    (directory / str(number)).touch()
    if number >= 2:
        raise ValueError(number)


class NeedsTwo(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def raise_what_cannot_be_made_again():
    raise NeedsTwo(1, 2)


def explode():
    raise ZeroDivisionError


class ExplodesHere:
    """Can be pickled, and not be unpickled."""

    def __reduce__(self):
        return explode, ()


def fail_at_2(number):
    return fail_if(number, 2)


def call_it(pair):
    return pair[0](pair[1])


def through_the_gate_at_0(pair):
    gate, number = pair
    return gate(number) if number == 0 else number


def exit_at_1(number):
    if number == 1:
        os._exit(1)
    return number


def main_thread_and_nested(value):
    import raddle.multiprocessing as rmp

    with rmp.Pool(1) as pool:
        return threading.current_thread() is threading.main_thread(), pool.apply(identity, (value,))


def keep_for_later(*values):
    _kept[:] = values


def put_kept(value):
    letters, lock = _kept
    with lock:
        letters.put(value)


def nested_pools(number):
    import raddle.multiprocessing as rmp

    with rmp.Pool(1) as pool, rmp.ThreadPool(1) as threads:
        return [pool.apply(abs, (0,)), threads.apply(abs, (number,))]


def ignore_and_tell(path):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    touch_and_sleep(path)


def path():
    return list(sys.path)
