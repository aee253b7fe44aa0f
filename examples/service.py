"""A service whose answers take computing: HTTP on this machine, asyncio in front, a process pool behind.

    python examples/service.py --port 8080
    curl localhost:8080/factors/600851475143          # {"number": 600851475143, "factors": [71, 839, 1471, 6857]}
    curl localhost:8080/statistics                    # what the pool has done so far

The event loop stays free while workers compute. A client that goes away before it has its answer stops its computation, which
would otherwise keep a worker busy for nobody; one that takes longer than `--timeout` seconds is stopped, and answered with 503.
SIGTERM and Ctrl-C end the service: it takes no more requests, answers those it has (for `--grace` seconds), and ends with 0.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import raddle

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGITS = 40


def factors(number: int) -> list[int]:
    """The prime factors of a number, found by trying: this is what takes computing."""
    found, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1 if divisor == 2 else 2
    return [*found, number] if number > 1 else found


class Service:
    """Answers requests, one for each connection, with a pool."""

    def __init__(self, pool: raddle.Pool, timeout: float) -> None:
        self.pool = pool
        self.timeout = timeout
        self.connections: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lives as long as a connection."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            await self.respond(reader, writer)
            writer.close()
            await writer.wait_closed()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, or speaks something else
        except asyncio.CancelledError:
            pass  # given up at the end; this is the last thing that the task does
        finally:
            writer.close()
            self.connections.discard(task)

    async def respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, unless the client goes away before."""
        path = await self.read_request(reader)
        answer = asyncio.ensure_future(self.answer(path))
        gone = asyncio.ensure_future(reader.read(1))  # whatever comes after a request is its end for us
        try:
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                writer.write(as_http(*answer.result()))
                await writer.drain()
        finally:
            # A computation that runs is stopped by this, and its worker replaced.
            answer.cancel()
            gone.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)

    async def read_request(self, reader: asyncio.StreamReader) -> str:
        """The path of a request; its headers are read and forgotten."""
        head = await reader.readuntil(b"\r\n\r\n")
        words = head.decode("latin-1").split()
        return words[1] if len(words) > 1 and words[0] == "GET" else ""

    async def answer(self, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
        """What a path comes to."""
        match path.strip("/").split("/"):
            case ["factors", text] if text.isdecimal() and len(text) <= DIGITS and int(text) > 0:
                number = int(text)
                try:
                    async with asyncio.timeout(self.timeout):
                        found = await self.pool.run(factors, number)
                except TimeoutError:
                    return HTTPStatus.SERVICE_UNAVAILABLE, {"error": f"no answer within {self.timeout:g} s"}
                except raddle.WorkerDied:
                    return HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the worker process died"}
                return HTTPStatus.OK, {"number": number, "factors": found}
            case ["factors", _]:
                return HTTPStatus.BAD_REQUEST, {"error": f"not a whole number above 0 with {DIGITS} digits at most"}
            case ["statistics"]:
                counts = self.pool.statistics()
                names = ("workers", "submitted", "finished", "failed", "cancelled", "running")
                return HTTPStatus.OK, {name: getattr(counts, name) for name in names}
            case _:
                return HTTPStatus.NOT_FOUND, {"error": "ask for /factors/NUMBER or /statistics"}

    async def finish(self, grace: float) -> int:
        """Waits for the answers that are under way, and gives up what takes longer than that. Returns how many it gave up."""
        if not self.connections:
            return 0
        _, late = await asyncio.wait(self.connections, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)


def as_http(status: HTTPStatus, body: dict[str, Any]) -> bytes:
    payload = json.dumps(body).encode() + b"\n"
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + payload


async def serve(options: argparse.Namespace) -> int:
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked_to_end.set)
    with raddle.Pool("process", workers=options.workers, name="factors") as pool:
        service = Service(pool, options.timeout)
        try:
            server = await asyncio.start_server(service.connected, "127.0.0.1", options.port)
        except OSError as error:
            print(f"error: cannot listen on port {options.port}: {os.strerror(error.errno or 0)}", file=sys.stderr)
            return 2
        print(f"listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await asked_to_end.wait()
        server.close()
        given_up = await service.finish(options.grace)
        counts = pool.statistics()
    print(
        f"{counts.finished} computations ended, {counts.cancelled} were stopped; {given_up} requests were given up at the end"
    )
    return 0


def positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, not {text!r}")
    return number


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, not {text!r}")
    return number


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: one that is free)")
    parser.add_argument("--workers", type=positive, help="worker processes (default: one for each core)")
    parser.add_argument("--timeout", type=seconds, default=30.0, help="seconds for one answer (default: %(default)g)")
    parser.add_argument(
        "--grace", type=seconds, default=5.0, help="seconds for answers at the end (default: %(default)g)"
    )
    options = parser.parse_args(arguments)
    if not 0 <= options.port < 65536:
        parser.error(f"a port is a number from 0 to 65535, not {options.port}")
    return asyncio.run(serve(options))


sys.exit(main())
