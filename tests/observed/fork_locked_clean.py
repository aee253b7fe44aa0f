"""The process is forked before there are threads."""

import os
import threading
import time

lock = threading.Lock()


def hold():
    with lock:
        time.sleep(0.3)


child = os.fork()
if child == 0:
    with lock:
        os._exit(0)
thread = threading.Thread(target=hold)
thread.start()
os.waitpid(child, 0)
thread.join()
