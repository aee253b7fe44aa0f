"""Of three workers one crashes, one raises and one is killed by somebody else. Nobody looks at how they ended."""

import multiprocessing
import os
import signal
import subprocess


def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)


def raises():
    raise ValueError("no such page")


def waits():
    signal.pause()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work) for work in (crashes, raises, waits)]
    for worker in workers:
        worker.start()
    # As the system does it, out of memory: not by this program.
    subprocess.run(["sh", "-c", f"sleep 0.3; kill -KILL {workers[-1].pid}"], check=True)
    for worker in workers:
        worker.join()
