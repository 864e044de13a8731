"""Storage over HTTP: a version of an object, streamed, capped, hashed, sniffed; and what Storage says of itself.

What a refusal means for a job is not judged here: see pipeline.work.filestore.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from pipeline import faults
from pipeline.errors import Misconfigured, Permanent, PipelineError, Throttled
from pipeline.files.sniff import sniff
from pipeline.job import FetchedFile, Job
from pipeline.providers.answers import KEY, retry_after
from pipeline.providers.limiter import Account, fingerprint

BUCKET = "documents"
PROVIDER = "storage"
_BLOCK = 1 << 16
_LOOK = httpx.Timeout(10)
"""For a small question: whoever asks it is waited for."""
_AGAIN_SECONDS = 2.0
"""Before a job that met an outage is tried again: after three of them the key is shut, and no job needs to wait."""
_BUSY_SECONDS = 10.0


class Unread(PipelineError):
    """The bytes of a version did not come.

    `error` is what it means where every file fares so. `code` is Storage's own, such as `404`; empty where there was no
    answer. `one_file` is whether a single file can be the cause: its bytes are gone, or they are others.
    """

    def __init__(self, error: Misconfigured | Throttled, *, code: str = "", one_file: bool = False) -> None:
        super().__init__(error.detail)
        self.error = error
        self.code = code
        self.one_file = one_file


def key_headers(key: str) -> dict[str, str]:
    """The headers that carry an API key: one of the new kind is no JWT and goes in `apikey` alone."""
    return {"apikey": key} if key.startswith("sb_") else {"apikey": key, "authorization": f"Bearer {key}"}


def role_of(key: str) -> str | None:
    """Whose key it is by its own words, such as `anon`; None where it does not say."""
    if key.startswith("sb_"):
        return "service_role" if key.startswith("sb_secret_") else "anon"
    try:
        payload = key.split(".")[1]
        role = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("role")
    except (ValueError, IndexError, AttributeError):
        return None
    return role if isinstance(role, str) else None


class Storage:
    """The project's Storage, read with the service key. Methods raise Unread where it refuses or does not answer."""

    def __init__(self, supabase_url: str, key: str, max_bytes: int, *, pictures: bool = False) -> None:
        """`pictures` is whether the parser reads them."""
        self.url = supabase_url.rstrip("/")
        self.account = Account(PROVIDER, "fetch", "", fingerprint(PROVIDER, key, self.url))
        self.role = role_of(key)
        self._client = httpx.AsyncClient(
            base_url=f"{self.url}/storage/v1",
            # the bytes as they are stored: a few that unpack to many would pass the cap on the way
            headers=key_headers(key) | {"accept-encoding": "identity"},
            timeout=httpx.Timeout(30, connect=10),
        )
        self._max_bytes, self._pictures = max_bytes, pictures

    async def close(self) -> None:
        await self._client.aclose()

    async def fetch(self, job: Job, folder: Path) -> FetchedFile:
        """Download the job's version into `folder`.

        A download is by name: it may be newer than the job, or an older copy out of a cache, so a mismatch is fetched
        once more past the caches. Raises Unread, or Permanent when the bytes are too many or of no use.
        """
        path = folder / "object"
        sizes = set[int]()
        for past_caches in (False, True):
            matches, size, sha256 = await self._download(job, path, past_caches=past_caches)
            if matches:
                media_type, extension = sniff(path, job.name, pictures=self._pictures)
                return FetchedFile(path, size, sha256, media_type, extension)
            sizes.add(size)
        replaced = Throttled(
            "The stored file is still being replaced; it is tried again soon.",
            provider=PROVIDER,
            retry_after=15,
            detail="size or ETag differ from the job's version",
            asked=False,
        )
        raise Unread(replaced, one_file=job.size is not None and job.size not in sizes)

    async def remove(self, bucket_id: str, names: Sequence[str]) -> None:
        """Remove objects, at most 1,000, save those that are not there."""
        await self._ask("DELETE", f"/object/{quote(bucket_id)}", json={"prefixes": list(names)})

    async def shows(self, job: Job, object_id: str, version: str) -> bool | None:
        """Whether it has that very version under the job's name; None where it is too old to say."""
        try:
            answer = await self._ask(
                "GET", f"/object/info/authenticated/{quote(job.bucket_id)}/{_path(job.name)}", timeout=_LOOK
            )
        except Unread as refused:
            if refused.code == "404":
                return False
            raise
        if not answer.content:
            return None
        body = _json(answer)
        return (body.get("id"), body.get("version")) == (object_id, version)

    async def delivers(self, name: str) -> bool:
        """Whether it hands out the first byte of an object of ours, past the caches."""
        url = f"/object/authenticated/{BUCKET}/{_path(name)}"
        try:
            async with self._client.stream(
                "GET", url, headers={"range": "bytes=0-0"}, params={"cacheNonce": uuid.uuid4().hex}, timeout=_LOOK
            ) as answer:
                if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    await answer.aread()
                    # an empty file has no first byte
                    return _code(answer) == "416"
                async for _ in answer.aiter_raw(_BLOCK):
                    return True
                return True
        except httpx.HTTPError:
            return False

    async def bucket_time(self) -> datetime | None:
        """When the bucket was last changed, to the millisecond; None where it shows no such bucket or is no Storage."""
        try:
            answer = await self._ask("GET", f"/bucket/{BUCKET}", timeout=_LOOK)
        except Unread as refused:
            if refused.code == "404":
                return None
            raise
        try:
            time = datetime.fromisoformat(str(_json(answer).get("updated_at")))
        except ValueError:
            return None
        return time if time.tzinfo else None

    async def _download(self, job: Job, path: Path, *, past_caches: bool) -> tuple[bool, int, bytes]:
        url = f"/object/authenticated/{quote(job.bucket_id)}/{_path(job.name)}"
        params = {"cacheNonce": uuid.uuid4().hex} if past_caches else None
        digest, size = hashlib.sha256(), 0
        try:
            async with self._client.stream("GET", url, params=params) as response:
                if response.status_code >= HTTPStatus.MULTIPLE_CHOICES:
                    await response.aread()
                    raise _refused(response)
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

    async def _ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._client.request(method, url, **options)
        except httpx.HTTPError as error:
            raise _silence(error) from error
        if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refused(answer)
        return answer


def _path(name: str) -> str:
    """The name as a URL's path. A folder called `..` is written in code, or the HTTP client would fold it and ask, with
    the service key, for an object in another user's folder."""
    return "/".join(part.replace(".", "%2E") if part in (".", "..") else quote(part) for part in name.split("/"))


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _json(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _code(response: httpx.Response) -> str:
    """Storage answers nearly every error with HTTP 400 and the real code in the body."""
    told = str(_json(response).get("statusCode", ""))
    return told if told.isdecimal() and len(told) == 3 else str(response.status_code)


def _refused(response: httpx.Response) -> Unread:
    code, body = _code(response), _json(response)
    reason = f"Storage answered {code} {body.get('error') or body.get('code') or ''}".strip()[:200]
    match code:
        case "401" | "402" | "403":
            return Unread(
                key_refused(f"{reason}: check {KEY[PROVIDER]}, a key of the project at UPLOAD_PIPELINE_SUPABASE_URL"),
                code=code,
            )
        case "429":
            busy = retry_after(response.headers)
            return Unread(busy_or_away(reason, _BUSY_SECONDS if busy is None else busy, outage=False), code=code)
        case _ if code.startswith("3"):
            return Unread(key_refused(f"{reason}, a redirect: check UPLOAD_PIPELINE_SUPABASE_URL"), code=code)
    # A gateway that has lost its server answers these for every file.
    away = code in ("408", "502", "503", "504", "544") or code.startswith("52")
    return Unread(busy_or_away(reason), code=code, one_file=not away)


def _silence(error: httpx.HTTPError) -> Unread:
    return Unread(busy_or_away(f"Storage does not answer: {type(error).__name__}"))


def key_refused(detail: str) -> Misconfigured:
    """The error for whatever an operator has to mend."""
    return Misconfigured(
        "Waiting for the operator: the file store does not let this installation in. The file is fine and continues "
        "when that is mended.",
        provider=PROVIDER,
        detail=detail,
    )


def busy_or_away(detail: str, seconds: float = _AGAIN_SECONDS, *, outage: bool = True, asked: bool = True) -> Throttled:
    """The error for what passes by itself; `seconds` until the job is tried again."""
    return Throttled(
        "The file store does not answer; this file continues by itself.",
        provider=PROVIDER,
        retry_after=seconds,
        detail=detail,
        outage=outage,
        asked=asked,
    )
