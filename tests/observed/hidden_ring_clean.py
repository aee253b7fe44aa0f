"""Three threads take the lock with the smaller number first, among threads that take many other locks, all in the same order."""

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
    first, second = sorted((seat, (seat + 1) % 3))
    with ring[first]:
        with ring[second]:
            turns[seat + 1].set()
    turns[3].wait()


threads = [threading.Thread(target=tidy, name=f"tidy {number}") for number in range(8)]
threads += [threading.Thread(target=dine, args=(seat,), name=f"diner {seat}") for seat in range(3)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
