"""Four philosophers who each take the fork on their left first, of whom three may sit at the table at a time."""

import threading

forks = [threading.Lock() for _ in range(4)]
seats = threading.Semaphore(3)
turns = [threading.Event() for _ in range(5)]


def dine(place):
    turns[place].wait()
    with seats:
        with forks[place]:
            with forks[(place + 1) % 4]:
                turns[place + 1].set()
    turns[4].wait()


threads = [threading.Thread(target=dine, args=(place,), name=f"philosopher {place}") for place in range(4)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
