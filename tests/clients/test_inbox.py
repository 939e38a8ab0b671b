"""The queue between connection and program."""

from __future__ import annotations

import asyncio

import pytest

from clients.inbox import Inbox
from streaming.errors import Unreachable
from streaming.events import Gap, Status


def _passing(lag_s: float) -> Status:
    return Status(lag_s=lag_s, degraded=False, step_ms=250)


def _durable(seq: int) -> Gap:
    return Gap(seq=seq, start=0.0, end=1.0, reason="overload")


def test_full() -> None:
    """What is outdated goes first, oldest before newer; durable events stay, and then the connection waits."""

    async def main() -> None:
        inbox = Inbox(capacity=3)
        for event in (_passing(1), _durable(1), _passing(2), _durable(2), _durable(3)):
            await inbox.put(event)
        waiting = asyncio.create_task(inbox.put(_durable(4)))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert [(await inbox.get()).seq for _ in range(4)] == [1, 2, 3, 4]
        await waiting

    asyncio.run(main())


def test_the_end() -> None:
    """Everything that came is read before the failure is raised, and it is raised again."""

    async def main() -> None:
        inbox = Inbox()
        await inbox.put(_durable(1))
        await inbox.end(Unreachable("gone"))
        assert (await inbox.get()).seq == 1
        for _ in range(2):
            with pytest.raises(Unreachable):
                await inbox.get()

    asyncio.run(main())
