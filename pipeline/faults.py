"""Named points on a job's way at which a test can kill, freeze, hang or break this process.

    PIPELINE_FAULTS="embed.stored:kill:3 lease.renewed:hang"     point:action[:passage], separated by blanks

Each fault strikes once, at the given passage of its point (the first, when none is given). Without the variable a point
costs one look at an empty dictionary. Only tests set it; a listener whose environment is `production` refuses to start
with it, and any other says in its log that it is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

from pipeline.errors import SetupError

VARIABLE = "PIPELINE_FAULTS"
ACTIONS = {
    "kill": "SIGKILL to this process",
    "freeze": "SIGSTOP to this process: it stands still until somebody sends SIGCONT",
    "hang": "the task that passes waits until it is cancelled",
    "cling": "the task that passes waits, and goes on waiting when it is cancelled",
    "raise": "the task that passes gets a RuntimeError",
}
POINTS = {
    "listen.begun": "LISTEN is in force",
    "claim.done": "jobs are claimed, and nothing is done about them yet",
    "fetch.block": "a block of the file is on disk",
    "fetch.done": "the file is on disk and is the job's version",
    "parse.claimed": "the purchase of a parse is this attempt's",
    "parse.reserved": "room for the parse is made, and the provider was not asked",
    "parse.uploaded": "the provider has the file, and its id is not stored yet",
    "call.answered": "a paid provider has delivered, and the ledger does not know",
    "parse.remembered": "the provider's id is stored",
    "parse.bought": "the pages are here, and not stored yet",
    "parse.stored": "the pages are stored",
    "chunk.done": "the passages are cut",
    "embed.claimed": "the purchase of the vectors is this attempt's",
    "embed.bought": "a batch of vectors is here, and not stored yet",
    "embed.stored": "a batch of vectors is stored",
    "publish.begun": "everything is bought, nothing is published",
    "publish.done": "the publish is committed, and nobody has heard of it",
    "outcome.begun": "an attempt has failed, and the queue does not know",
    "outcome.stored": "the queue knows that an attempt has failed",
    "lease.renewed": "the leases are renewed",
    "release.begun": "the listener stops with jobs in its hands",
    "release.done": "the jobs are given back",
    "purge.step": "one step of a purge is committed",
    "erasure.files": "a page of a deleted user's files is removed",
    "erasure.step": "one step of a deleted user's erasure is committed",
}

_log = logging.getLogger(__name__)
_armed: dict[str, tuple[str, int]] = {}
"""Point to its action and the passages until it strikes."""


def arm(environment: str) -> None:
    """Read the variable. Raises SetupError for what is no fault, and in production."""
    _armed.clear()
    for fault in os.environ.get(VARIABLE, "").split():
        point, action, passage = (*fault.split(":"), "1", "")[:3]
        if point not in POINTS or action not in ACTIONS or not passage.isdigit():
            raise SetupError(f"{VARIABLE}: {fault!r} is not point:action[:passage].")
        if environment == "production":
            raise SetupError(f"{VARIABLE} is set. It breaks the listener on purpose: unset it in production.")
        _armed[point] = (action, int(passage))
    if _armed:
        _log.warning("faults are armed", extra={"faults": sorted(_armed)})


async def point(name: str) -> None:
    """Pass a point. Does nothing unless a test has armed it."""
    if name in _armed:
        await _pass(name)


async def _pass(name: str) -> None:
    action, passages = _armed[name]
    if passages > 1:
        _armed[name] = (action, passages - 1)
        return
    del _armed[name]
    _log.warning("fault", extra={"point": name, "action": action})
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "freeze":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "hang":
            await asyncio.Event().wait()
        case "cling":
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        case _:
            raise RuntimeError(f"fault at {name}")
