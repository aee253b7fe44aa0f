"""Five threads take four locks around two circles that have a pair of locks in common, and by luck never at the same moment."""

import threading

locks = {name: threading.Lock() for name in "abcd"}
pairs = ["ab", "bc", "ca", "bd", "da"]
turns = [threading.Event() for _ in range(len(pairs) + 1)]


def pass_on(turn, held, taken):
    turns[turn].wait()
    with locks[held]:
        with locks[taken]:
            turns[turn + 1].set()
    turns[-1].wait()


threads = [threading.Thread(target=pass_on, args=(turn, *pair), name=pair) for turn, pair in enumerate(pairs)]
for thread in threads:
    thread.start()
turns[0].set()
for thread in threads:
    thread.join()
