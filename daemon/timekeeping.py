"""The one clock of the service: everything that happens because time has passed, happens here."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from daemon import notify
from daemon.driver import SessionDriver
from streaming.errors import TimedOut

if TYPE_CHECKING:
    from daemon.service import Service

logger = logging.getLogger("amanuensis.service")

TICK_S = 1.0


async def keep_time(service: Service, stopped: asyncio.Event) -> None:
    """Until `stopped`; the service's task."""
    watchdog, fed = notify.watchdog_period(), 0.0
    while not stopped.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S):
                await stopped.wait()
        now = time.monotonic()
        service.scheduler.tick()
        service.speakers.tick()
        service.models.tick()
        _look_after_all(service, now)
        _measure(service)
        if watchdog is not None and now - fed >= watchdog:
            notify.notify("WATCHDOG=1")
            fed = now
        if not service.stopping:
            await _close_orphans(service)


def _look_after_all(service: Service, now: float) -> None:
    """In a frame of its own: the clock's, which never ends, would keep the last session, and with it a model."""
    for driver in tuple(service.drivers.values()):
        _look_after(service, driver, now)


def _look_after(service: Service, driver: SessionDriver, now: float) -> None:
    server = service.config.server
    driver.tick()
    if driver.finishing:
        return
    if driver.detached_at is not None and now - driver.detached_at > server.resume_window_s:
        logger.info("session %s: its producer did not come back, it is finished", driver.id)
        driver.finish()
    elif (
        driver.attached
        and not driver.patient
        and not driver.full
        and now - driver.heard_at > server.idle_timeout_s
    ):
        driver.dismiss(
            TimedOut(f"No audio for {server.idle_timeout_s:g} s; resume the session when there is some.")
        )


def _measure(service: Service) -> None:
    load, metrics = service.scheduler.load, service.metrics
    metrics.sessions.set(load.sessions)
    metrics.capacity.set(load.capacity)
    metrics.queue.set(load.waiting)
    metrics.lag.set(load.lag_s)
    metrics.utilisation.set(load.utilisation)
    metrics.viewers.set(service.hub.viewers)
    metrics.backlog.set(sum(driver.backlog_s for driver in service.drivers.values()))


async def _close_orphans(service: Service) -> None:
    for session in service.orphans.due():
        async with service.reviving:
            if session not in service.drivers:
                await service.orphans.close(session)
                service.hub.end(session)  # who waited for it to go on gets its end out of the journal
