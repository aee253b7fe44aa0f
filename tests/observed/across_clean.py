"""Processes that wait for each other's items and messages for a while: that is no work, and no input or output."""

import multiprocessing
import time

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue, simple, (ours, theirs) = context.Queue(), context.SimpleQueue(), context.Pipe()
    waiting = [queue.get, queue.get, simple.get, theirs.recv]
    processes = [context.Process(target=wait) for wait in waiting]
    for process in processes:
        process.start()
    time.sleep(1.5)
    for send in (queue.put, queue.put, simple.put, ours.send):
        send("a message")
    for process in processes:
        process.join()
