"""A call in a pool of one worker waits for another call of the same pool."""

from concurrent.futures import ThreadPoolExecutor

executor = ThreadPoolExecutor(1)


def outer():
    return executor.submit(pow, 2, 10).result()


print(executor.submit(outer).result())
