"""What stands between a job and Storage: whose fault is it that a file does not come?

A wrong key, the Storage of another project and an outage are nobody's file's fault: they shut the key for all listeners
that have it, as a provider's is (the migration `providers`), and cost no job a failure. A file whose bytes are gone
fails alone. The answers look alike, so the database and Storage are asked for more than the one that failed; the table
is in the migration `file_store`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import psycopg

from pipeline.db.queries import Queries
from pipeline.errors import JobError, Lost, Misconfigured, Superseded, Throttled
from pipeline.job import FetchedFile, Job
from pipeline.providers.answers import KEY
from pipeline.providers.limiter import ELSEWHERE_SECONDS, outcome_of
from pipeline.work.storage import BUCKET, Storage, Unread, busy_or_away, key_refused

_log = logging.getLogger(__name__)
_COMPARE_SECONDS = 15.0
_MARGIN = timedelta(milliseconds=1)
"""Storage rounds times to milliseconds."""
_SLOW_SECONDS = 30.0


class AnotherProject(Misconfigured):
    """Storage is not that of the project whose database this is; `detail` names both, and the remedy."""


@dataclass(slots=True)
class FileStore:
    """The project's Storage, as all listeners together know it.

    `database` is what the database is called in a sentence.
    """

    queries: Queries
    storage: Storage
    database: str
    _troubled: bool = False
    """Whether the last that was told was bad news: good news is told after it, and not for every file."""

    async def fetch(self, job: Job, folder: Path) -> FetchedFile:
        """Download the job's version into `folder`.

        Raises LeaseLost, Superseded, Permanent where the file is too large, Lost where its bytes are gone, and
        Misconfigured or Throttled where the fault lies elsewhere.
        """
        try:
            file = await self.storage.fetch(job, folder)
        except Unread as unread:
            try:
                error = await self._judged(job, unread)
            except Unread as worse:
                error = worse.error
            except Misconfigured as ours:
                error = ours
            await self._tell(error)
            raise error from unread
        await self._tell(None)
        return file

    async def remove(self, names: Sequence[str]) -> None:
        """Remove files, at most 1,000, save those that are not there. Raises Misconfigured or Throttled."""
        try:
            await self.storage.remove(BUCKET, names)
        except Unread as unread:
            # A key that may not delete is no reason to read nothing.
            with contextlib.suppress(Misconfigured, Throttled):
                await self.look()
            raise unread.error from unread

    async def look(self) -> None:
        """See whether Storage lets us in, is this database's and hands out files, and tell all listeners.

        Raises Misconfigured (AnotherProject where it is one) or Throttled.
        """
        try:
            await self.examine()
        except (Misconfigured, Throttled) as error:
            await self._tell(error)
            raise
        self._troubled = True
        await self._tell(None)

    async def examine(self) -> None:
        """As `look`, and tell nobody."""
        try:
            await self._prove()
            others = await self.queries.other_files()
            if others and not await self._delivers_any(others):
                raise _no_file_at_all("")
        except Unread as unread:
            raise unread.error from unread

    async def _prove(self) -> None:
        """Write a mark into the bucket's row and read it through Storage: no other project has it, not even a clone."""
        mark = await self.queries.mark_bucket()
        if mark is None:
            raise key_refused(f"The database has no bucket {BUCKET}: run `pipeline migrate`")
        shown = await self.storage.bucket_time()
        if shown is None and self.storage.role in ("anon", "authenticated"):
            raise key_refused(
                f"{KEY['storage']} is a key for {self.storage.role}: set the service_role or sb_secret_ key"
            )
        if shown is None or not await self._is_ours(mark, shown):
            raise self._another_project()

    async def _is_ours(self, mark: datetime, shown: datetime) -> bool:
        if abs(shown - mark) < _MARGIN:
            return True
        newest = await self.queries.bucket_mark()  # another listener may have written one since
        return newest is not None and mark < shown < newest + _MARGIN

    async def _judged(self, job: Job, unread: Unread) -> JobError:
        """What to make of it; raises LeaseLost, Superseded, Misconfigured, and Unread where Storage says no more."""
        if unread.code == "429":
            return unread.error
        others = await self._others_of(job)
        alone = await self._delivers_any(others) if others else unread.one_file
        if not alone:
            return _no_file_at_all(str(unread)) if unread.one_file else unread.error
        if unread.code and await self.storage.delivers(job.name):
            return busy_or_away(f"An outage is over: {unread}", outage=False, asked=False)
        if unread.one_file or isinstance(unread.error, Misconfigured):
            return Lost("Storage does not hand out this file; it is tried again.", detail=str(unread))
        # It broke off, and who is to say whose fault that was: nobody's failure, and no outage.
        unread.error.retry_after, unread.error.asked = _SLOW_SECONDS, False
        return unread.error

    async def _others_of(self, job: Job) -> list[str]:
        """Other files to compare with, once it is certain that Storage is ours and has the row of the job's version."""
        for _ in range(3):
            stored = await self.queries.stored_file(job)
            if not stored.stands:
                raise Superseded
            try:
                shown = await self.storage.shows(job, stored.object_id, stored.object_version)
            except Unread as unread:
                if not unread.one_file:
                    raise
                shown = None
            if shown:
                return stored.others
            if shown is None:
                await self._prove()
                return stored.others
            # replaced in between, or not our Storage
        await self._prove()
        raise key_refused(f"Storage does not show a file that it has: check {KEY['storage']}")

    async def _delivers_any(self, names: Sequence[str]) -> bool:
        try:
            async with asyncio.timeout(_COMPARE_SECONDS):
                for name in names:
                    if await self.storage.delivers(name):
                        return True
        except TimeoutError:
            pass
        return False

    def _another_project(self) -> AnotherProject:
        return AnotherProject(
            key_refused("").message,
            provider="storage",
            detail=f"The database {self.database} and the Storage at {self.storage.url} are not of one project. Set "
            "UPLOAD_PIPELINE_DATABASE_URL, UPLOAD_PIPELINE_SUPABASE_URL and "
            f"{KEY['storage']} to those of the same project.",
        )

    async def _tell(self, error: JobError | None) -> None:
        """Let all listeners know how Storage was found, where that is news."""
        outcome, retry_after = "bought", None
        if error is not None:
            outcome, _, retry_after = outcome_of(error)
        good = outcome in ("bought", "declined")
        if outcome == "unclear" or (good and not self._troubled):
            return
        try:
            await self.queries.observe(
                self.storage.account, outcome, retry_after if outcome == "limited" else None, error and error.detail
            )
        except psycopg.OperationalError as lost:
            _log.warning("Storage's state could not be told", extra={"reason": type(lost).__name__})
            return
        self._troubled = not good
        if isinstance(error, Misconfigured):
            error.retry_after = ELSEWHERE_SECONDS


def _no_file_at_all(reason: str) -> Throttled:
    return busy_or_away(f"Storage hands out no file, though it knows them. {reason}".strip())
