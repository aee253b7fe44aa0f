"""Two threads take turns by two locks that are signals: who takes one never releases it, the other does."""

import threading

ping, pong = threading.Lock(), threading.Lock()
ping.acquire()
pong.acquire()


def serve():
    for _ in range(3):
        ping.release()
        pong.acquire()


def answer():
    for _ in range(3):
        ping.acquire()
        pong.release()


threads = [threading.Thread(target=work) for work in (serve, answer)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
