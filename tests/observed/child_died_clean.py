"""Every child ends as it is meant to, also by a signal or with an exit code of its own."""

import multiprocessing
import os
import signal
import subprocess
import sys


def waits():
    signal.pause()


def says_three():
    sys.exit(3)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    killed, ended, told = (context.Process(target=work) for work in (waits, waits, says_three))
    for worker in (killed, ended, told):
        worker.start()
    killed.kill()
    ended.terminate()
    for worker in (killed, ended, told):
        worker.join()
    assert [killed.exitcode, ended.exitcode, told.exitcode] == [-signal.SIGKILL, -signal.SIGTERM, 3]

    with context.Pool(2) as pool:
        assert pool.map(abs, [-1, 2]) == [1, 2]
    alone = subprocess.Popen(["sleep", "60"])
    alone.kill()
    assert alone.wait() == -signal.SIGKILL
    group = subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True)
    os.killpg(group.pid, signal.SIGKILL)
    assert group.wait() == -signal.SIGKILL
    assert subprocess.run(["false"]).returncode == 1
