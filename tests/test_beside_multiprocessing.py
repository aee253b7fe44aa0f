"""A pool of processes beside `multiprocessing`: what that shares between its processes, the workers of a pool share too."""

from __future__ import annotations


def test_shared_memory_that_a_worker_has_looked_at_outlives_the_worker(script):
    ended = script("""
        import os, raddle
        from multiprocessing import resource_tracker, shared_memory

        def look(name):
            from multiprocessing import resource_tracker, shared_memory
            memory = shared_memory.SharedMemory(name)
            found = bytes(memory.buf[:5])
            memory.close()
            return found, os.fstat(resource_tracker.getfd()).st_ino

        memory = shared_memory.SharedMemory(create=True, size=5)
        memory.buf[:5] = b"hello"
        for _ in range(2):
            with raddle.Pool("process", 1) as pool:
                found, pipe = pool.submit(look, memory.name).result()
                print(found, pipe == os.fstat(resource_tracker.getfd()).st_ino)
        memory.close()
        memory.unlink()
    """).run()
    # Trackers hold stderr open: what a worker's own one would have to say has been said.
    assert (ended.out, ended.err) == ("b'hello' True\n" * 2, "")


def test_a_program_without_shared_memory_of_multiprocessing_starts_no_tracker(script):
    ended = script("""
        import multiprocessing.resource_tracker as tracker, raddle
        with raddle.Pool("process", 1) as pool:
            print(pool.submit(abs, -1).result(), tracker._resource_tracker._pid)
    """).run()
    assert ended.out == "1 None\n", ended.err
