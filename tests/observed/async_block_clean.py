"""A coroutine that lets the others run while it sleeps."""

import asyncio


async def handle():
    await asyncio.sleep(0.5)


async def main():
    await asyncio.gather(*(handle() for _ in range(20)))


asyncio.run(main())
