"""The zygote of a pool: loads what the workers need, and forks them. The other end is ``raddle-proc/src/lane/zygote.md``.

It has one thread and keeps it: a process with several cannot be forked safely, because locks that the others hold are copied
and nobody opens them. The standard library alone, until it loads what it was asked to.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import os
import select
import struct
import sys

import raddle_boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Zygote", "main"]

_HEAD = struct.Struct("=4q")
_FORK, _COLLECT = 1, 2
_READY, _THREADS, _UNFIT, _FORKED, _FAILED, _ENDED = 16, 17, 18, 19, 20, 21
#: Descriptors that come with a request, at most; and bytes of a text.
_GIVEN, _TEXT = 8, 30000


def main(socket: int, page: int, bell: int, heap: int, boot: int, parent: int) -> NoReturn:
    """Is a zygote, until its parent ends it. All but `parent` are descriptors."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the parent gets Ctrl-C and decides
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # else the kernel would collect the workers
    for descriptor in (socket, page, bell, heap):
        os.set_inheritable(descriptor, False)
    settings = raddle_boot.read_settings(boot)
    # Loaded here, so that no worker has to: it starts no thread.
    extension = raddle_boot.load_extension(settings["extension"])
    extension.follow(parent)
    Zygote(socket, (page, bell, heap), settings, extension).run()


class Zygote:
    """A process that forks workers."""

    def __init__(self, socket: int, shared: tuple[int, int, int], settings: dict[str, Any], extension: Any) -> None:
        self._socket = _socket.socket(fileno=socket)
        self._socket.setblocking(True)
        self._shared = shared
        self._settings = settings
        self._extension = extension
        #: Not asked for by a worker, which would be told of another parent when this one has ended.
        self._pid = os.getpid()
        self._poll = select.poll()
        self._poll.register(socket, select.POLLIN)
        #: Workers that run, by the pidfd; and those that are to be collected, by number.
        self._running: dict[int, int] = {}
        self._ended: dict[int, int] = {}
        self._threaded: list[str] = []

    def run(self) -> NoReturn:
        """Loads everything, and does what it is asked to."""
        if self._load() and self._is_alone():
            self._say(_READY)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._running:
                    self._report(descriptor)
                elif not self._obey():
                    os._exit(0)  # the parent is gone, and its workers go with us

    def _load(self) -> bool:
        sys.path[:] = self._settings["path"]
        sys.argv[:] = self._settings["argv"]
        limits = self._settings["limits"]
        raddle_boot.share_cpus(limits["threads"], limits["are_asked_for"])
        threads = _threads()
        for name in self._settings["preload"]:
            try:
                __import__(name)
            except BaseException as error:  # noqa: BLE001  # whatever it is, the parent is told
                text = f"{name} could not be loaded for the workers of the pool\n\n{raddle_boot.describe(error)}"
                self._say(_UNFIT, text=text)
                return False
            before, threads = threads, _threads()
            if threads > before:
                self._threaded.append(name)
        # With a module that ignores it, the system would collect our workers before we know how they ended.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        raddle_boot.flush()  # what is still in a buffer would be printed by every worker
        # What is there now stays where it is: the collector of a worker does not touch it, and the memory stays shared.
        gc.collect()
        gc.freeze()
        return True

    def _is_alone(self) -> bool:
        """Whether there is one thread. If not, says so."""
        if _threads() == 1:
            return True
        self._say(_THREADS, text=", ".join(self._threaded) or "what was loaded for the workers")
        return False

    def _obey(self) -> bool:
        space = _socket.CMSG_SPACE(_GIVEN * 4)
        data, ancillary, _, _ = self._socket.recvmsg(_HEAD.size, space, _socket.MSG_CMSG_CLOEXEC)
        if len(data) < _HEAD.size:
            return False
        fds = [fd for _, _, rights in ancillary for (fd,) in struct.iter_unpack("=i", rights)]
        word, first, second, _ = _HEAD.unpack(data)
        if word == _FORK:
            if len(fds) != second:  # the kernel drops those that find no place here
                self._say(_FAILED, first, text="too many open files")
            elif self._is_alone():
                self._fork(first, fds)
            for fd in fds:
                os.close(fd)
        elif word == _COLLECT and first in self._ended:
            os.close(self._ended.pop(first))
            os.waitpid(first, 0)
        return True

    def _fork(self, request: int, fds: list[int]) -> None:
        try:
            pid = os.fork()
        except OSError as error:
            self._say(_FAILED, request, text=str(error))
            return
        if pid == 0:
            self._be_worker(fds)
        try:
            os.setpgid(pid, pid)  # it does so itself; whoever comes first
        except OSError:
            pass  # it has ended already, having done so
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, _signal.SIGKILL)
            os.waitpid(pid, 0)
            self._say(_FAILED, request, text=str(error))
            return
        self._running[pidfd] = pid
        self._poll.register(pidfd, select.POLLIN)
        self._say(_FORKED, request, pid)

    def _be_worker(self, fds: list[int]) -> NoReturn:
        try:
            os.setpgid(0, 0)
            self._socket.close()
            for pidfd in (*self._running, *self._ended.values()):
                os.close(pidfd)
            link, words, moment, *others = fds
            settings = self._settings | raddle_boot.read_settings(moment)
            _take_on(settings, others)
            _reseed()
            _leave_ends_to_the_zygote()
            raddle_boot.work((link, *self._shared), words, self._pid, settings)
        except BaseException:  # noqa: BLE001  # as an interpreter does that was started for it
            sys.excepthook(*sys.exc_info())
            raddle_boot.flush()
        os._exit(1)

    def _report(self, pidfd: int) -> None:
        found = self._extension.look_at_child(pidfd)
        if found is None:
            return
        self._poll.unregister(pidfd)
        pid = self._running.pop(pidfd)
        self._ended[pid] = pidfd
        code, peak = found
        self._say(_ENDED, pid, 0 if code is None else code, peak)

    def _say(self, word: int, *numbers: int, text: str = "") -> None:
        head = _HEAD.pack(word, *numbers, *[0] * (3 - len(numbers)))
        try:
            self._socket.send(head + text.encode(errors="replace")[-_TEXT:])
        except BrokenPipeError:
            os._exit(0)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _take_on(settings: dict[str, Any], others: list[int]) -> None:
    """Has the environment, directory and streams that the parent has now, rather than those of when the zygote was started."""
    for name, descriptor in zip(settings["others"], others, strict=True):
        if name == "directory":
            os.fchdir(descriptor)
        else:
            os.dup2(descriptor, name)
        os.close(descriptor)
    environ = settings["environ"]
    for name in [name for name in os.environ if name not in environ]:
        del os.environ[name]
    for name, value in environ.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _leave_ends_to_the_zygote() -> None:
    """What preloaded modules have registered for the end of the process is not for the end of each worker: it may be the end of
    something that all of them use.
    """
    import atexit

    atexit._clear()
    weakref = sys.modules.get("weakref")
    if weakref is not None:
        for info in weakref.finalize._registry.values():
            info.atexit = False
        weakref.finalize._registered_with_atexit = False


def _reseed() -> None:
    """Gives generators of random numbers a seed of their own, as far as they are not Python's, which has done so."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
