"""Two threads take two locks in the same order."""

import threading

x, y = threading.Lock(), threading.Lock()
both = threading.Barrier(2)


def work():
    both.wait()
    for _ in range(2000):
        with x:
            with y:
                pass


threads = [threading.Thread(target=work, name=name) for name in ("alpha", "beta")]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
