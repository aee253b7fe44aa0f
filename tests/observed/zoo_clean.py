"""Much of what the standard library has, used as it is meant to be."""

import collections
import concurrent.futures
import multiprocessing
import threading
import time


def square(number):
    return number * number


def meet(barrier, gate, count):
    barrier.wait()
    with gate:
        count.append(threading.get_ident())


def release_for_another(lock, is_taken):
    is_taken.wait()
    time.sleep(0.7)
    lock.release()


def main():
    barrier, gate, count = threading.Barrier(3), threading.Semaphore(2), collections.deque()
    threads = [threading.Thread(target=meet, args=(barrier, gate, count)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lock, is_taken = threading.Lock(), threading.Event()
    other = threading.Thread(target=release_for_another, args=(lock, is_taken))
    other.start()
    lock.acquire()
    is_taken.set()
    lock.acquire()
    lock.release()
    other.join()

    again = threading.RLock()
    with again, again:
        pass

    threading.Thread(target=threading.Event().wait, daemon=True).start()
    with multiprocessing.Pool(2) as pool:
        assert pool.map(square, range(200)) == [square(number) for number in range(200)]
        pool.close()
        pool.join()
    with concurrent.futures.ProcessPoolExecutor(2) as executor:
        assert sum(executor.map(square, range(50))) == sum(map(square, range(50)))
    with concurrent.futures.ThreadPoolExecutor(4) as executor:
        assert len(list(executor.map(square, range(500)))) == 500


if __name__ == "__main__":
    main()
