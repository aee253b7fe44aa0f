"""Threads whose end, or whose result, somebody waits for: each in another way."""

import queue
import socketserver
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor


def start(target, *args):
    thread = threading.Thread(target=target, args=args)
    thread.start()
    return thread


class Saver(threading.Thread):
    """It is asked for its result by a method of its own."""

    def run(self):
        self.saved = 1

    def join(self, timeout=None):
        super().join(timeout)
        return self.saved


# It has ended long before it is joined; it is asked whether it is alive before, or instead.
early, asked, polled = start(int), start(int), start(int)
time.sleep(0.2)
early.join()
asked.is_alive()
asked.join()
while polled.is_alive():
    time.sleep(0.01)
saver = Saver()
saver.start()
saver.join()

# It says by itself that it is done.
answers, simple, is_done, is_over = queue.Queue(), queue.SimpleQueue(), threading.Event(), threading.Event()
lock, future, ready = threading.Lock(), Future(), threading.Condition()


def count():
    with lock:
        counts.append(1)


def notify():
    with ready:
        counts.append(2)
        ready.notify()


counts = []
start(answers.put, "answer")
start(simple.put, "answer")
start(is_done.set)
start(is_over.set)
start(count)
start(future.set_result, 1)
start(notify)
answers.get()
simple.get()
is_done.wait()
while not is_over.is_set():
    time.sleep(0.01)
while True:
    with lock:
        if counts:
            break
    time.sleep(0.01)
with ready:
    ready.wait_for(lambda: 2 in counts)
future.result()

# A server says when its loop is over, to whoever ends it.
server = socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler)
start(server.serve_forever, 0.01)
server.shutdown()
start(lambda: server.serve_forever(0.01))
time.sleep(0.1)
server.shutdown()
server.server_close()

# A pool and a timer look after their threads.
pool = ThreadPoolExecutor(2)
pool.submit(int).result()
threading.Timer(0.01, int).start()
start(time.sleep, 0.1).join()
time.sleep(0.4)
pool.shutdown()
