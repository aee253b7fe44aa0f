"""Three threads take three locks around a circle, by luck never at the same moment, among threads that take many other locks, all in the same order."""

import threading

shelf = [threading.Lock() for _ in range(40)]
ring = [threading.Lock() for _ in range(3)]
turns = [threading.Event() for _ in range(4)]


def tidy():
    for left in range(len(shelf)):
        for right in range(left + 1, len(shelf)):
            with shelf[left]:
                with shelf[right]:
                    pass
    turns[3].wait()


def dine(seat):
    turns[seat].wait()
    with ring[seat]:
        with ring[(seat + 1) % 3]:
            turns[seat + 1].set()
    turns[3].wait()


threads = [threading.Thread(target=tidy, name=f"tidy {number}") for number in range(8)]
threads += [threading.Thread(target=dine, args=(seat,), name=f"diner {seat}") for seat in range(3)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
