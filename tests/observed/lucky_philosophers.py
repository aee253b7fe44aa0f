"""Four philosophers each take the fork on their left and then the one on their right, and by luck never at the same moment."""

import threading

forks = [threading.Lock() for _ in range(4)]
turns = [threading.Event() for _ in range(5)]


def dine(seat):
    turns[seat].wait()
    with forks[seat]:
        with forks[(seat + 1) % 4]:
            turns[seat + 1].set()
    turns[4].wait()


threads = [threading.Thread(target=dine, args=(seat,), name=f"philosopher {seat}") for seat in range(4)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
