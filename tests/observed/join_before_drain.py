"""A parent waits for the end of a child that cannot write what it has put into a queue."""

import multiprocessing


def produce(queue):
    queue.put("x" * 1_000_000)


if __name__ == "__main__":
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=produce, args=(queue,))
    child.start()
    child.join()
    print(len(queue.get()))
