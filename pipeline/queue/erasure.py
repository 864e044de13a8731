"""Removes what a deleted user leaves: the files through Storage, then the content; see the migration `erasure`.

Each step may be repeated, so whichever listener is there goes on after a crash.
"""

from __future__ import annotations

import logging

from pipeline import faults
from pipeline.db.queries import Queries
from pipeline.errors import JobError
from pipeline.work.filestore import FileStore

_log = logging.getLogger(__name__)


class Eraser:
    """Goes on with erasures that are due, one at a time."""

    def __init__(self, queries: Queries, files: FileStore) -> None:
        self._queries = queries
        self._files = files

    async def run(self) -> bool:
        """Go on with one, as far as it goes now; False when none is due.

        What stands in the way, such as a Storage that does not answer, postpones it and is told in
        `pipeline.erasures.last_error`. Raises psycopg.OperationalError.
        """
        erasure = await self._queries.claim_erasure()
        if erasure is None:
            return False
        try:
            state = await self._erase(erasure)
        except JobError as error:
            reason = error.detail or error.message
            _log.warning("erasure postponed", extra={"erasure": erasure, "reason": reason})
            await self._queries.postpone_erasure(erasure, reason)
        else:
            _log.info(f"erasure {state}", extra={"erasure": erasure})
        return True

    async def _erase(self, erasure: int) -> str:
        while True:
            await self._remove_files(erasure)
            while (state := await self._queries.erase(erasure)) == "more":
                await faults.point("erasure.step")
            if state != "files":
                return state

    async def _remove_files(self, erasure: int) -> None:
        asked_for: set[str] = set()
        while names := await self._queries.files_to_erase(erasure):
            if asked_for.issuperset(names):
                raise JobError("Storage keeps files that it was asked to remove.")
            await self._files.remove(names)
            await faults.point("erasure.files")
            asked_for = set(names)
