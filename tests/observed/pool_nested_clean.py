"""The same with two workers."""

from concurrent.futures import ThreadPoolExecutor

executor = ThreadPoolExecutor(2)


def outer():
    return executor.submit(pow, 2, 10).result()


print(executor.submit(outer).result())
