"""Workers wait for more work, and nobody tells them that there is none."""

import queue
import threading

jobs = queue.Queue()


def work():
    while True:
        jobs.get()
        jobs.task_done()


workers = [threading.Thread(target=work, name=f"worker-{number}") for number in range(3)]
for worker in workers:
    worker.start()
for number in range(100):
    jobs.put(number)
for worker in workers:
    worker.join()
