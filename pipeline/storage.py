"""Fetches one version of a stored object: streamed, capped, hashed, sniffed, and compared with the job's version."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import httpx

from pipeline import faults
from pipeline.errors import Misconfigured, Permanent, Superseded, Throttled
from pipeline.job import FetchedFile, Job
from pipeline.parsing.sniff import sniff

_BLOCK = 1 << 16
_SILENT = "The file store does not answer; it is tried again soon."


def key_headers(key: str) -> dict[str, str]:
    """The headers that carry an API key: one of the new kind is no JWT and goes in `apikey` alone."""
    return {"apikey": key} if key.startswith("sb_") else {"apikey": key, "authorization": f"Bearer {key}"}


class Storage:
    """The project's Storage, read with the service key."""

    def __init__(self, supabase_url: str, key: str, max_bytes: int) -> None:
        self._client = httpx.AsyncClient(
            base_url=f"{supabase_url.rstrip('/')}/storage/v1",
            # the bytes as they are stored: a few that unpack to many would pass the cap on the way
            headers=key_headers(key) | {"accept-encoding": "identity"},
            timeout=httpx.Timeout(30, connect=10),
        )
        self._max_bytes = max_bytes

    async def close(self) -> None:
        await self._client.aclose()

    async def fetch(self, job: Job, folder: Path) -> FetchedFile:
        """Download the job's version into `folder`.

        A download is by name: it may be newer than the job, or an older copy out of a cache, so a mismatch is fetched
        once more past the caches. Raises Superseded when the object is gone, Throttled (no failure is counted) when
        the bytes are still another version's, Permanent when they are too many or of no use.
        """
        path = folder / "object"
        for past_caches in (False, True):
            matches, size, sha256 = await self._download(job, path, past_caches=past_caches)
            if matches:
                media_type, extension = sniff(path, job.name)
                return FetchedFile(path, size, sha256, media_type, extension)
        raise Throttled(
            "The stored file is still being replaced; it is tried again soon.",
            provider="storage",
            retry_after=15,
            detail="size or ETag differ from the job's version",
        )

    async def remove(self, bucket_id: str, names: Sequence[str]) -> None:
        """Remove objects, at most 1,000, save those that are not there. Raises Throttled or Misconfigured."""
        try:
            response = await self._client.request(
                "DELETE", f"/object/{quote(bucket_id)}", json={"prefixes": list(names)}
            )
        except httpx.HTTPError as error:
            raise _silence(error) from error
        if response.status_code >= 400:
            refusal = _refusal(response)
            raise Throttled(_SILENT, provider="storage", detail="404") if isinstance(refusal, Superseded) else refusal

    async def _download(self, job: Job, path: Path, *, past_caches: bool) -> tuple[bool, int, bytes]:
        url = f"/object/authenticated/{quote(job.bucket_id)}/{_path(job.name)}"
        params = {"cacheNonce": uuid.uuid4().hex} if past_caches else None
        digest, size = hashlib.sha256(), 0
        try:
            async with self._client.stream("GET", url, params=params) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise _refusal(response)
                with path.open("wb") as file:
                    async for block in response.aiter_raw(_BLOCK):
                        size += len(block)
                        if size > self._max_bytes:
                            raise Permanent(
                                f"The file is larger than the {self._max_bytes / 2**20:.0f} MiB that are allowed."
                            )
                        digest.update(block)
                        file.write(block)
                        await faults.point("fetch.block")
                etag = response.headers.get("etag")
        except httpx.HTTPError as error:
            raise _silence(error) from error
        matches = (job.size is None or job.size == size) and (
            job.etag is None or etag is None or _bare(job.etag) == _bare(etag)
        )
        return matches, size, digest.digest()


def _path(name: str) -> str:
    """The name as a URL's path. A folder called `..` is written in code, or the HTTP client would fold it and ask, with
    the service key, for an object in another user's folder."""
    return "/".join(part.replace(".", "%2E") if part in (".", "..") else quote(part) for part in name.split("/"))


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _refusal(response: httpx.Response) -> Exception:
    """Storage answers nearly every error with HTTP 400 and the real code in the body."""
    try:
        body = response.json()
        code = str(body.get("statusCode") or response.status_code)
        reason = f"{code} {body.get('error') or body.get('code') or ''}"
    except ValueError:
        code = reason = str(response.status_code)
    match code:
        case "404":
            return Superseded()
        case "401" | "403":
            return Misconfigured(
                "The file cannot be read at the moment; it waits until this is mended.",
                provider="storage",
                detail=f"Storage refuses UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY ({reason})",
            )
        case _:
            return Throttled(_SILENT, provider="storage", retry_after=10, detail=reason)


def _silence(error: httpx.HTTPError) -> Throttled:
    return Throttled(_SILENT, provider="storage", retry_after=10, detail=type(error).__name__)
