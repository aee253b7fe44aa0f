"""A process is forked while another thread holds a lock that the child then wants."""

import os
import threading
import time

lock = threading.Lock()
is_held = threading.Event()


def hold():
    with lock:
        is_held.set()
        time.sleep(0.3)


threading.Thread(target=hold).start()
is_held.wait()
child = os.fork()
if child == 0:
    with lock:
        os._exit(0)
os.waitpid(child, 0)
