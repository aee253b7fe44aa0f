"""What the processes do in the tests of shared channels: importable by spawned ones."""

from __future__ import annotations

import os
import signal


def produce(sender, name, count):
    """Sends so many numbered messages, and closes."""
    with sender:
        for number in range(count):
            sender.send((name, number))


def produce_for_ever(sender, name):
    number = 0
    while True:
        sender.send((name, number))
        number += 1


def consume(receiver, results):
    """Sends on what it has received, when the channel is closed."""
    results.send((os.getpid(), list(receiver)))
    results.close()


def echo(receiver, sender):
    with sender:
        for value in receiver:
            sender.send(value)


def note_each(receiver, path):
    """Writes down each message in one step after it was received, and dies with the file as it is."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for name, number in receiver:
        os.write(log, f"{name} {number}\n".encode())


def send_from(sender, value):
    sender.send(value)
    return os.getpid()


def receive_from(receiver):
    return receiver.recv(30)


def give_back(sender):
    return sender


def total(receiver):
    return sum(receiver)


def send_arrays(sender, count, size):
    import numpy as np

    for number in range(count):
        sender.send({"number": number, "array": np.full(size, number, dtype="u1")})
    sender.close()


def put_into_global(receiver):
    global given
    given = receiver


def receive_from_global():
    return given.recv(30)


def die_at_once(sender):
    os.kill(os.getpid(), signal.SIGKILL)


def say_where(sender):
    sender.send(("ready", os.getpid()))
    signal.pause()


def interrupted(sender, receiver):
    """Waits for a message until Ctrl-C, and says so."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sender.send(os.getpid())
        receiver.recv()
    except KeyboardInterrupt:
        sender.send("interrupted")


def descriptors():
    return len(os.listdir("/proc/self/fd"))
