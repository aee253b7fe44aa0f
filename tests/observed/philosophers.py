"""Five philosophers who each take the left fork first. Two of the forks can be taken again by who has them."""

import threading

forks = [threading.RLock() if number % 2 else threading.Lock() for number in range(5)]
table = threading.Barrier(5)


def dine(number):
    with forks[number]:
        table.wait()
        with forks[(number + 1) % 5]:
            pass


threads = [threading.Thread(target=dine, args=(number,), name=f"philosopher-{number}") for number in range(5)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
