"""Five philosophers who take the fork with the lower number first."""

import threading

forks = [threading.RLock() if number % 2 else threading.Lock() for number in range(5)]
table = threading.Barrier(5)


def dine(number):
    table.wait()
    first, second = sorted((number, (number + 1) % 5))
    for _ in range(500):
        with forks[first]:
            with forks[second]:
                pass


threads = [threading.Thread(target=dine, args=(number,), name=f"philosopher-{number}") for number in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
