"""The parent reads first."""

import multiprocessing


def produce(queue):
    queue.put("x" * 1_000_000)


if __name__ == "__main__":
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=produce, args=(queue,))
    child.start()
    print(len(queue.get()))
    child.join()
