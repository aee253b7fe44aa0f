"""Four philosophers take the fork with the smaller number first."""

import threading

forks = [threading.Lock() for _ in range(4)]
turns = [threading.Event() for _ in range(5)]


def dine(seat):
    turns[seat].wait()
    first, second = sorted((seat, (seat + 1) % 4))
    with forks[first]:
        with forks[second]:
            turns[seat + 1].set()
    turns[4].wait()


threads = [threading.Thread(target=dine, args=(seat,), name=f"philosopher {seat}") for seat in range(4)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
