"""A flush that is cancelled while its thread waits for others, as at the end of a busy gateway, and the last one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor


async def cancel_and_flush_again(flush: Callable[[], Awaitable[None]]) -> None:
    """Cancel a flush before its thread can begin, then flush again."""
    loop, others_end = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    others = loop.run_in_executor(None, others_end.wait)
    flushing = asyncio.ensure_future(flush())
    await asyncio.sleep(0.05)
    flushing.cancel()
    await asyncio.gather(flushing, return_exceptions=True)
    last = asyncio.ensure_future(flush())
    await asyncio.sleep(0)
    others_end.set()
    await asyncio.gather(others, last)
