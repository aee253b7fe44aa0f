"""A server of lines and twenty clients, all of them coroutines of one event loop."""

from __future__ import annotations

import asyncio
import json
import sys

CLIENTS, REQUESTS = 20, int(sys.argv[1])


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        numbers = json.loads(line)
        writer.write(json.dumps({"sum": sum(numbers), "most": max(numbers)}).encode() + b"\n")
        await writer.drain()
    writer.close()


async def ask(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(REQUESTS):
        writer.write(json.dumps(list(range(number % 50 + 1))).encode() + b"\n")
        reply = json.loads(await reader.readline())
        assert reply["most"] == number % 50
    writer.close()


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port) for _ in range(CLIENTS)))
    server.close()


asyncio.run(main())
