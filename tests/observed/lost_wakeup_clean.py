"""The waiter looks first."""

import threading
import time

condition = threading.Condition()
is_ready = False


def wait():
    time.sleep(0.8)
    with condition:
        condition.wait_for(lambda: is_ready)


thread = threading.Thread(target=wait, name="waiter")
thread.start()
with condition:
    is_ready = True
    condition.notify()
thread.join()
