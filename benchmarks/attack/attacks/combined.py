"""Several attacks at once: what each of them takes comes from the same budget."""

from __future__ import annotations

import asyncio

from benchmarks.attack.attack import AttackRun, attack
from benchmarks.attack.attacks.calls import full_replies
from benchmarks.attack.attacks.fields import repeated_field
from benchmarks.attack.attacks.pictures import pixel_bombs
from benchmarks.attack.attacks.refusals import refused_at_once
from benchmarks.attack.attacks.streams import idle_streams, watch_flood
from benchmarks.attack.attacks.unfinished import unfinished_requests
from benchmarks.attack.attacks.unread import unread_connections, unread_streams

TOGETHER = (
    pixel_bombs,
    repeated_field,
    refused_at_once,
    full_replies,
    idle_streams,
    watch_flood,
    unfinished_requests,
    unread_connections,
    unread_streams,
)
"""Those that build large payloads first, since the time counts from the first connection."""


@attack("nine of these attacks at once: received, queued, decoded and unread bytes together")
async def combined(run: AttackRun) -> None:
    """Run attacks on all parts of the budget together."""
    async with asyncio.TaskGroup() as tasks:
        for each in TOGETHER:
            tasks.create_task(each.run(run))
