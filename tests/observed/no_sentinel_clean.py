"""Each worker is told when there is no more work."""

import queue
import threading
import time

jobs = queue.Queue()


def work():
    while (job := jobs.get()) is not None:
        time.sleep(job / 10_000)


workers = [threading.Thread(target=work, name=f"worker-{number}") for number in range(3)]
for worker in workers:
    worker.start()
time.sleep(0.7)
for number in range(100):
    jobs.put(number)
for _ in workers:
    jobs.put(None)
for worker in workers:
    worker.join()
