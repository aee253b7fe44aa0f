"""An event loop ends, something is done in the ordinary way, and another one begins."""

import asyncio
import time


async def rest():
    await asyncio.sleep(0.2)


asyncio.run(rest())
time.sleep(0.5)
asyncio.run(rest())
