"""The first code that runs in a child process. Standard library only, until the child is set up.

It is a package of its own because importing ``raddle`` here would load all of it, where a worker needs the extension
alone.
"""

from __future__ import annotations

import _pickle
import os
import sys

TYPE_CHECKING = False  # importing `typing` for it would take longer than the rest of this file
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

__all__ = [
    "Descriptor",
    "OnImport",
    "as_it_is",
    "authkey",
    "drop_in",
    "dumps",
    "dumps_by_value",
    "forking_dumps",
    "native",
    "open_ref",
    "tracker",
    "when_imported",
    "work",
]


#: The CPUs for a pool that is made in this process, if it is a worker; else it may have all that the system lets it use.
share: int | None = None


class Descriptor:
    """A file descriptor that travels with the arguments of a ``multiprocessing.Process``.

    A forked child has it already; when it is pickled for a spawned one, ``multiprocessing`` passes a duplicate.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Any, ...]:
        from multiprocessing.reduction import DupFd

        return _received, (DupFd(self.fd),)


def _received(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())


class _Refs:
    """What was made here of the objects that the parent has put, by key, until it says that nobody needs them."""

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        #: Whether somebody will say what is to be forgotten: the parent does to its workers.
        self.keeps = False

    def open(self, key: int, pickle: Any, buffers: tuple[Any, ...]) -> Any:
        """The object; made when it is first named."""
        ref = getattr(sys.modules.get("raddle._ref"), "_own", {}).get(key)
        if ref is not None:
            return ref.value
        if key not in self._made:
            read_only = [memoryview(buffer).toreadonly() for buffer in buffers]
            made = _pickle.loads(pickle, buffers=read_only)
            if not self.keeps:
                return made
            self._made[key] = made
        return self._made[key]

    def forget(self, key: int) -> None:
        """Lets go of an object."""
        self._made.pop(key, None)


_refs = _Refs()


def open_ref(key: int, pickle: Any, *buffers: Any) -> Any:
    """What a `raddle.Ref` becomes where it is unpickled."""
    return _refs.open(key, pickle, buffers)


def as_it_is(buffer: Any) -> Any:
    """What a `raddle.shared.Buffer` becomes where it is unpickled: the memory itself."""
    return buffer


def native(link: int, page: int, bell: int, heap: int, words: int, boot: int, parent: int) -> None:
    """Runs a worker of a ``raddle.Pool``. ``boot`` is a descriptor of the pickled start-up settings."""
    # The C modules, without the Python around them: a worker is ready some milliseconds earlier.
    import _signal  # type: ignore[import-not-found]

    # The parent gets Ctrl-C and decides; a worker that is asked to end is asked by the parent.
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    for descriptor in (link, page, bell, heap, words):
        os.set_inheritable(descriptor, False)  # they came through `exec`, and are to go no further
    settings = read_settings(boot)
    work((link, page, bell, heap), words, parent, settings, settings["preload"])


def read_settings(descriptor: int) -> dict[str, Any]:
    """What the parent has written into this file for us. Closes it."""
    settings: dict[str, Any] = _pickle.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0))
    os.close(descriptor)
    return settings


def work(
    fds: tuple[int, int, int, int], words: int, parent: int, settings: dict[str, Any], preload: tuple[str, ...] = ()
) -> None:
    """Is a worker of a ``raddle.Pool``, until it ends. `preload`: modules that it loads first."""
    _be_one_of_many(settings["share"])
    confess_to(words)
    keep_limits(**settings["limits"])
    authkey.set(settings["authkey"])
    use_tracker_of(parent, settings["tracker"])
    sys.path[:] = settings["path"]
    sys.argv[:] = settings["argv"]
    initializer, initargs = settings["initializer"], settings["initargs"]

    def initialize() -> None:
        for name in preload:
            __import__(name)
        if initializer is not None:
            _pickle.loads(initializer)(*_pickle.loads(initargs))

    def speak(outlet: Any) -> None:
        from . import output

        output.speak(outlet, settings["log_levels"])

    seams = {
        "dumps": dumps,
        "dumps_by_value": dumps_by_value,
        "loads": _pickle.loads,
        "describe": describe,
        "stand_in": _stand_in,
        "initialize": initialize if initializer is not None or preload else None,
        "unfit": _unfit,
        "idle": flush,
        "forget": _refs.forget,
        "speak": None if settings["log_levels"] is None else speak,
    }
    load_extension(settings["extension"]).work(fds, parent, seams, settings["max_tasks"])
    _end()


def _be_one_of_many(cpus: int) -> None:
    """Says that this process is a worker, with so many CPUs for pools of its own."""
    global share
    share = cpus
    loaded = sys.modules.get("raddle._cpus")
    if loaded is not None:
        loaded.take_share(cpus)  # a fork has what the thread had that forked, which may be a worker, too
    _refs.keeps = True


def _end() -> None:
    """Ends the process as an interpreter does, but leaves taking everything apart to the system."""
    import atexit

    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()
    atexit._run_exitfuncs()
    flush()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "finish"):
            stream.finish()
    os._exit(0)


def drop_in(
    extension_path: str,
    descriptors: tuple[Descriptor, ...],
    parent: int | None,
    lifeline: Descriptor | None,
    cpus: int,
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
    max_tasks: int | None,
    for_pool: bool,
) -> None:
    """Runs a worker of a drop-in: the target of a ``multiprocessing.Process``.

    ``for_pool``: of a ``raddle.multiprocessing.Pool``, else of a ``raddle.futures.ProcessPoolExecutor``.
    """
    import pickle
    import signal

    # A replacement is started by a native thread of the parent, which takes no signals; what it starts inherits that.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if for_pool:
        # The parent gets Ctrl-C and decides. Not by SIG_IGN, which a program that is started here would inherit.
        signal.signal(signal.SIGINT, _do_nothing)
    seams = {
        "dumps": _dumps_or_maybe if for_pool else forking_dumps,
        "dumps_by_value": None,
        "loads": pickle.loads,
        "describe": describe,
        "stand_in": _maybe if for_pool else None,
        "initialize": None if initializer is None else lambda: initializer(*initargs),
        "unfit": _unfit if for_pool else _logged_unfit,
        "idle": flush,
        "forget": _refs.forget,
        "speak": None,
    }
    if parent is None:
        _end_with_distant_parent()
    if lifeline is not None:
        _hold_on_to(lifeline.fd)
    *fds, words = (descriptor.fd for descriptor in descriptors)
    _be_one_of_many(cpus)
    confess_to(words)
    load_extension(extension_path).work(tuple(fds), parent or os.getppid(), seams, max_tasks)


def _do_nothing(number: int, frame: object) -> None:
    """A signal handler."""


def _end_with_distant_parent() -> None:
    """Has the kernel kill this process when the one that uses it ends: its real parent is the fork server.

    That one's end of a pipe closes then, and a pipe can send any signal when it becomes readable.
    """
    import fcntl
    import select
    import signal
    from multiprocessing import parent_process

    user = parent_process()
    if user is None:
        return
    pipe = user.sentinel
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:
        os._exit(1)  # it has ended already


def _hold_on_to(lifeline: int) -> None:
    """Ends this process when the other end of a socket is closed, without a thread that waits for it.

    For a worker whose parent in the sense of the system is the fork server, which outlives the pool's process as long as
    it has workers.
    """
    import fcntl

    # The kernel sends SIGIO when the other end goes; what SIGIO does by default is to end the process.
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    try:
        os.read(lifeline, 1)
    except BlockingIOError:
        return  # it is still open
    os._exit(1)


def confess_to(words: int) -> None:
    """Has a crash (SIGSEGV and the like) write where it happened into this file, for the parent to read."""
    import faulthandler

    faulthandler.enable(words)


#: What libraries of numbers read to know how many threads to start, when they are loaded.
NUMBERS_OF_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def keep_limits(
    memory: int | None, nice: int, affinity: list[int] | None, threads: int | None, are_asked_for: bool
) -> None:
    """Limits what this process takes, before anything of the user's is loaded."""
    if memory is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    if nice:
        os.nice(nice)
    if affinity is not None:
        os.sched_setaffinity(0, affinity)
    share_cpus(threads, are_asked_for)


def share_cpus(threads: int | None, are_asked_for: bool) -> None:
    """Says to libraries of numbers how many threads they may start; unless it was asked for, not where somebody else has."""
    if threads is not None:
        for name in NUMBERS_OF_THREADS:
            if are_asked_for or name not in os.environ:
                os.environ[name] = str(threads)


def when_imported(name: str, act: Callable[[Any], object]) -> None:
    """Does something to a module: at once if it has been imported, else when it is."""
    if name in sys.modules:
        __import__(name)  # waits for another thread that is just loading it
        act(sys.modules[name])
    else:
        OnImport(name, act)


class OnImport:
    """Does something to a module when it is imported, before whoever imports it sees it."""

    def __init__(self, name: str, act: Callable[[Any], object]) -> None:
        self._name = name
        self._act: Callable[[Any], object] | None = act
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Sees the import come."""
        if name != self._name or self._act is None:
            return None
        # It stays where it is, also when all is done: other threads may be going through the list.
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None or spec.loader is None:
            return spec
        loader = spec.loader
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            del loader.exec_module
            execute(module)
            act, self._act = self._act, None
            if act is not None:
                act(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


class _AuthKey:
    """The key by which processes of one program know each other, such as a `multiprocessing.Manager` and those who use it.

    `multiprocessing` makes one when it is first imported, which may be before or after a pool has started workers.
    """

    def __init__(self) -> None:
        self._key: bytes | None = None

    def get(self) -> bytes:
        """The key of this process, for its workers."""
        process = sys.modules.get("multiprocessing.process")
        if process is not None:
            return bytes(process.current_process().authkey)
        if self._key is None:
            self.set(os.urandom(32))
        assert self._key is not None
        return self._key

    def set(self, key: bytes) -> None:
        """Makes it the key of this process, now or when `multiprocessing` is imported."""
        is_first, self._key = self._key is None, key
        process = sys.modules.get("multiprocessing.process")
        if process is not None:
            self._give(process)
        elif is_first:
            OnImport("multiprocessing.process", self._give)

    def _give(self, process: Any) -> None:
        process.current_process().authkey = self._key


authkey = _AuthKey()


def tracker() -> int | None:
    """The descriptor by which this process tells the resource tracker of `multiprocessing` what there is, for its workers.

    Who has not imported `multiprocessing.shared_memory` need not have a tracker.
    """
    resources = sys.modules.get("multiprocessing.resource_tracker")
    if resources is None:
        return None
    if "multiprocessing.shared_memory" in sys.modules:
        resources.ensure_running()
    descriptor: int | None = resources._resource_tracker._fd
    return descriptor


def use_tracker_of(parent: int, descriptor: int | None) -> None:
    """Has this process use its parent's resource tracker when it imports it, as the children of `multiprocessing` do.

    One of its own would take shared memory that this process has looked at for its own, and remove it when this process ends.
    """
    if descriptor is None:
        return

    def use(resources: Any) -> None:
        try:
            resources._resource_tracker._fd = os.open(f"/proc/{parent}/fd/{descriptor}", os.O_WRONLY)
        except OSError:
            pass  # a parent into which its children may not look

    OnImport("multiprocessing.resource_tracker", use)


def load_extension(path: str) -> ModuleType:
    """Loads ``raddle._raddle`` from its file, without importing ``raddle``."""
    name = "raddle._raddle"
    if name in sys.modules:
        extension = sys.modules[name]
    else:
        from importlib.machinery import ExtensionFileLoader, ModuleSpec

        loader = ExtensionFileLoader(name, path)
        spec = ModuleSpec(name, loader, origin=path)
        extension = loader.create_module(spec)
        extension.__spec__, extension.__file__ = spec, path
        loader.exec_module(extension)
        sys.modules[name] = extension
        os.register_at_fork(after_in_child=extension.forked)
    return extension


def describe(error: BaseException) -> str:
    """The traceback of an exception as text."""
    from traceback import format_exception

    return "".join(format_exception(error))


def flush() -> None:
    """Before a worker sleeps, what the user printed goes out."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and getattr(stream, "has_more", True):
            stream.flush()


def forking_dumps(value: object, buffer_callback: Callable[[object], object] | None) -> memoryview:
    """``ForkingPickler.dumps``, with buffers apart."""
    import io
    from multiprocessing.reduction import ForkingPickler

    pickled = io.BytesIO()
    ForkingPickler(pickled, 5, True, buffer_callback).dump(value)
    return pickled.getbuffer()


def dumps(value: object, buffer_callback: Callable[[object], object] | None = None) -> bytes:
    """The pickle of an object; its large buffers go to the callback."""
    return _pickle.dumps(value, 5, buffer_callback=buffer_callback)


def dumps_by_value(value: object, buffer_callback: Callable[[object], object] | None = None) -> bytes:
    """The same, of what another process cannot import."""
    from raddle import _by_value

    return _by_value.dumps_by_value(value, buffer_callback)


def _dumps_or_maybe(value: object, buffer_callback: Callable[[object], object] | None) -> memoryview:
    """``forking_dumps``, with the error that ``multiprocessing.Pool`` has for what cannot be pickled."""
    try:
        return forking_dumps(value, buffer_callback)
    except Exception as error:
        from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

        raise MaybeEncodingError(error, value) from error


def _maybe(error: BaseException, text: str, trouble: BaseException) -> BaseException:
    """That error, for an exception."""
    from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]

    cause = trouble.__cause__ if isinstance(trouble, MaybeEncodingError) else trouble
    stand_in: BaseException = MaybeEncodingError(cause or trouble, error)
    return stand_in


def _unfit(error: BaseException) -> str:
    return f"the initializer of the pool raised in a worker\n\n{describe(error)}"


def _logged_unfit(error: BaseException) -> str:
    from concurrent.futures._base import LOGGER

    LOGGER.critical("Exception in initializer:", exc_info=error)
    return "A process initializer failed, the pool is not usable anymore"


def _stand_in(error: BaseException, text: str, trouble: BaseException) -> BaseException:
    from raddle.errors import RemoteError

    kind = type(error)
    try:
        message = str(error)
    except Exception as unprintable:  # noqa: BLE001  # the user's own __str__ may raise anything
        message = f"<its message raised {type(unprintable).__name__}>"
    return RemoteError(f"{kind.__module__}.{kind.__qualname__}", message, f"{type(trouble).__name__}: {trouble}")
