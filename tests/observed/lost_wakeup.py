"""A thread is notified before it waits, and waits without looking whether it still has to."""

import threading
import time

condition = threading.Condition()


def wait():
    time.sleep(0.2)
    with condition:
        condition.wait()


thread = threading.Thread(target=wait, name="waiter")
thread.start()
with condition:
    condition.notify()
thread.join()
