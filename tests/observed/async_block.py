"""A coroutine that sleeps as if it were alone."""

import asyncio
import time


async def handle():
    time.sleep(0.5)


async def main():
    ticks = asyncio.create_task(asyncio.sleep(0.1))
    await handle()
    await ticks


asyncio.run(main())
