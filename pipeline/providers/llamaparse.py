"""Parsing by LlamaParse, through its maker's SDK `llama-cloud`.

One parse is an upload, a wait and a collection. The upload buys it, so its job id is handed to `remember` before any
waiting; an attempt that comes later resumes that job instead of buying another. Polling with a deadline is the truth,
a webhook only shortens the wait (`hint`). The deadline counts from the job's creation by the provider's own clock, so
that a job that hangs is given up after `llamaparse_timeout_seconds`, however many attempts have waited for it.

The SDK's own waiting helper is not used: it does not raise for a failed job, and it forgets its job id on a crash.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TypeVar

import httpx
import llama_cloud
from llama_cloud.types import ParsingGetResponse
from llama_cloud.types.parsing_create_params import WebhookConfiguration

from pipeline.errors import JobError, Permanent, SetupError, Throttled, Transient
from pipeline.files.text import TOO_MUCH_TEXT, clean
from pipeline.job import FetchedFile, Page, Parsed
from pipeline.providers import estimate
from pipeline.providers.answers import Refused, billed, job_error, malformed, outage, settings_refused
from pipeline.providers.parser import Progress, Remember, Turn, at_once, is_job_id
from pipeline.settings import Settings

log = logging.getLogger(__name__)

PATIENCE = 4
"""Polls in a row that may find the service away before the stage is paused: the job is paid for and goes on without us.
One that finds us too fast is the limiter's business at once."""

MOST_PAGES = 1_000_000
LONGEST_ESCAPE = 3
"""Bytes that JSON may need for one byte of text: six for the two of an é."""

FAULTS_OF_THE_FILE = (
    (("PASSWORD", "PROTECTED", "ENCRYPT"), "The file is protected by a password; upload a copy without one."),
    (("BROKEN", "CORRUPT", "INVALID_PDF", "DAMAGED"), "The file is damaged and cannot be read; upload it again."),
    (("UNSUPPORTED", "NOT_SUPPORTED"), "The parsing service does not read files of this kind."),
    (("NO_DATA", "NO_CONTENT", "EMPTY"), "No text was found in this file."),
    (
        ("TOO_MANY_PAGES", "PAGE_LIMIT", "TOO_LARGE"),
        "The file is too long for the parsing service; upload it in parts.",
    ),
)
"""Words of a failed job's `error_message` that tell a fault of the file, and the owner's sentence for each."""

Answer = TypeVar("Answer")


class _Gone(Exception):
    """The provider no longer knows the job, or it ended without a result for no fault of the file."""


class LlamaParseParser:
    """Implements Parser. Times are in seconds; raises SetupError without a key.

    `version` is `latest` or a dated version of the tier; with `latest` the provider's results may change under one
    fingerprint, so pin a version where stored parses must stay comparable.
    """

    name = "llamaparse"

    def __init__(
        self, settings: Settings, *, poll: float = 1.0, longest_poll: float = 10.0, request_timeout: float = 120.0
    ) -> None:
        key = settings.llamaparse_api_key.get_secret_value()
        if not key:
            raise SetupError("UPLOAD_PIPELINE_LLAMAPARSE_API_KEY is empty and UPLOAD_PIPELINE_PARSER is llamaparse")
        self._tier = settings.llamaparse_tier
        self._version = settings.llamaparse_version
        self.fingerprint = f"llamaparse {self._tier} {self._version}"
        self._deadline = settings.llamaparse_timeout_seconds
        self._max_pages, self._max_text_bytes = settings.max_pages, settings.max_text_bytes
        self._poll, self._longest_poll = poll, longest_poll
        self._request_timeout = request_timeout
        self._webhooks = _webhooks(settings)
        self._waiting: dict[str, asyncio.Event] = {}
        self._client = llama_cloud.AsyncLlamaCloud(
            api_key=key,
            base_url=settings.llamaparse_url,
            max_retries=0,
            timeout=httpx.Timeout(request_timeout, connect=10.0),
            # A redirect would carry files to an address that nobody has set.
            http_client=llama_cloud.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    async def parse(
        self, file: FetchedFile, *, resume: str | None, remember: Remember, progress: Progress, turn: Turn = at_once
    ) -> Parsed:
        """See Parser. A resumed job that has failed, hangs or is forgotten is replaced by a new upload.

        Raises Permanent where the file is at fault or every page failed, Transient where the job failed or ran past its
        deadline, and what `pipeline.providers` says for the service's other answers.
        """
        if resume:
            try:
                return self._within(await self._collect(resume, progress, turn))
            except _Gone as gone:
                log.info("llamaparse job is of no more use, uploading again", extra={"reason": str(gone)})
        # Each page costs money: a PDF says how many it has.
        pages = await asyncio.to_thread(estimate.pages, file.path, file.media_type)
        if file.media_type == "application/pdf" and pages > self._max_pages:
            raise Permanent(f"The file has {pages} pages; {self._max_pages} are allowed here. Upload it in parts.")
        job_id = await self._upload(file)
        await remember(job_id)
        try:
            return self._within(await self._collect(job_id, progress, turn))
        except _Gone as gone:
            raise Transient(
                "The parsing service could not read this file; it will be tried again.", detail=f"llamaparse: {gone}"
            ) from None

    def _within(self, parsed: Parsed) -> Parsed:
        """Raises Permanent for more text than one file may turn into."""
        if sum(len(page.markdown.encode()) for page in parsed.pages) > self._max_text_bytes:
            raise Permanent(TOO_MUCH_TEXT)
        return parsed

    def hint(self, job_id: str) -> bool:
        """See Hinted."""
        if waiter := self._waiting.get(job_id):
            waiter.set()
        return waiter is not None

    async def warm_up(self) -> None:
        """Nothing to start."""

    async def close(self) -> None:
        await self._client.close()

    async def _upload(self, file: FetchedFile) -> str:
        content = await asyncio.to_thread(file.path.read_bytes)
        try:
            # The owner's name for the file is not the provider's business; the extension tells it the format.
            job = await self._call(
                lambda: self._client.parsing.create(
                    tier=self._tier,
                    version=self._version,
                    upload_file=(f"document{file.extension}", content, file.media_type),
                    webhook_configurations=self._webhooks,
                )
            )
        except Refused as refused:
            if refused.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
                raise Permanent("The file is too large for the parsing service.", detail=refused.detail) from None
            raise Permanent("The parsing service refuses this file.", detail=refused.detail) from None
        if not is_job_id(getattr(job, "id", None)):
            raise malformed(self.name, "an upload without a job id")
        return job.id

    async def _collect(self, job_id: str, progress: Progress, turn: Turn) -> Parsed:
        """Wait for a job and fetch its pages. Raises _Gone where another upload may succeed."""
        waiter = self._waiting.setdefault(job_id, asyncio.Event())
        try:
            await self._wait(job_id, waiter, progress, turn)
            await turn()
            expand = "text" if self._tier == "fast" else "markdown"
            return _pages(await self._result(job_id, expand), expand)
        finally:
            self._waiting.pop(job_id, None)

    async def _wait(self, job_id: str, waiter: asyncio.Event, progress: Progress, turn: Turn) -> None:
        clock = asyncio.get_running_loop().time
        started, pause, failures, age_at_start = clock(), self._poll, 0, 0.0
        while True:
            await turn()
            waiter.clear()
            try:
                answer, age = await self._status(job_id)
            except Throttled as error:
                failures += 1
                if not error.outage or failures >= PATIENCE:
                    raise
            else:
                failures = 0
                if age is not None:
                    age_at_start = max(age_at_start, age - (clock() - started))
                match answer.job.status:
                    case "COMPLETED":
                        return
                    case "FAILED":
                        raise _failure(answer.job.error_message)
                    case "CANCELLED":
                        raise _Gone("it was cancelled at the provider")
            waited = clock() - started
            left = self._deadline - age_at_start - waited
            if left <= 0:
                await self._cancel(job_id)
                raise _Gone(f"no result {self._deadline:g} s after its upload")
            # The service tells no fraction; this one rises quickly at first and never arrives.
            await progress(0.9 * (1 - math.exp(-waited / 30)))
            try:
                async with asyncio.timeout(min(pause, left)):
                    await waiter.wait()
            except TimeoutError:
                pause = min(pause * 1.5, self._longest_poll)

    async def _status(self, job_id: str) -> tuple[ParsingGetResponse, float | None]:
        """The job as it stands, and its age by the provider's clock; None where the answer does not tell."""
        try:
            raw = await self._call(lambda: self._client.parsing.with_raw_response.get(job_id))
        except Refused as refused:
            raise _Gone(refused.detail) from None
        try:
            answer = await raw.parse()
            known = answer.job.status in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
        except (AttributeError, TypeError, ValueError, llama_cloud.LlamaCloudError) as error:
            raise malformed(self.name, type(error).__name__) from None
        if not known:
            raise malformed(self.name, "a status that the documentation does not know")
        return answer, _age(answer.job.created_at, raw.headers.get("date"))

    async def _result(self, job_id: str, expand: str) -> object:
        """The finished job with its pages as JSON. No more is read than shows that it is too long."""
        most = LONGEST_ESCAPE * self._max_text_bytes + 1_000_000

        async def read() -> object:
            body = bytearray()
            async with self._client.parsing.with_streaming_response.get(job_id, expand=[expand]) as answer:
                async for part in answer.iter_bytes():
                    body += part
                    if len(body) > most:
                        raise Permanent(TOO_MUCH_TEXT)
            return json.loads(body)

        try:
            return await self._call(read)
        except Refused as refused:
            raise settings_refused(self.name, refused.detail) from None

    async def _cancel(self, job_id: str) -> None:
        try:
            await self._call(lambda: self._client.parsing.cancel(job_id))
        except (JobError, _Gone) as error:
            log.info("llamaparse job could not be cancelled", extra={"reason": type(error).__name__})

    async def _call(self, request: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            async with asyncio.timeout(self._request_timeout):
                return await request()
        except llama_cloud.NotFoundError as error:
            if "/upload" in str(error.request.url):
                raise job_error(self.name, error) from None
            raise _Gone("the provider does not know this job") from None
        except TimeoutError:
            raise outage(self.name, f"no complete answer in {self._request_timeout:g} s") from None
        except (llama_cloud.LlamaCloudError, httpx.HTTPError, OSError, ValueError, RecursionError) as error:
            raise job_error(self.name, error) from None


def _webhooks(settings: Settings) -> list[WebhookConfiguration] | llama_cloud.Omit:
    """Where and how the service tells that a parse has ended.

    With an upload the SDK sends this parameter alone: ids of configurations that are kept at the service it drops.
    """
    if not settings.llamaparse_webhook_url:
        return llama_cloud.omit
    return [
        {
            "webhook_url": settings.llamaparse_webhook_url,
            "webhook_signing_secret": settings.llamaparse_webhook_secret.get_secret_value(),
            "webhook_output_format": "json",
            "webhook_events": ["parse.success", "parse.partial_success", "parse.error", "parse.cancelled"],
        }
    ]


def _age(created: object, date: str | None) -> float | None:
    try:
        now = parsedate_to_datetime(date or "")
    except (TypeError, ValueError):
        return None
    if not isinstance(created, datetime):
        return None
    return max((now - (created if created.tzinfo else created.replace(tzinfo=UTC))).total_seconds(), 0.0)


def _failure(message: object) -> Permanent | _Gone:
    """What a FAILED job means. The message itself may quote the file and goes nowhere."""
    text = str(message or "").upper().replace(" ", "_").replace("-", "_")
    for words, sentence in FAULTS_OF_THE_FILE:
        for word in words:
            if word in text:
                return Permanent(sentence, detail=f"llamaparse: job failed, {word}")
    return _Gone("the job failed at the provider")


def _at(answer: object, *names: str) -> object:
    """What stands there in a JSON object, None where nothing does."""
    for name in names:
        answer = answer.get(name) if isinstance(answer, dict) else None
    return answer


def _pages(answer: object, kind: str) -> Parsed:
    listed = _at(answer, kind, "pages")
    if not isinstance(listed, list):
        raise malformed("llamaparse", f"a finished job without its {kind}")
    pages: dict[int, Page] = {}
    failed: dict[int, str] = {}
    for entry in listed:
        number, text = _at(entry, "page_number"), _at(entry, kind)
        if type(number) is not int or not 1 <= number <= MOST_PAGES or number in pages or number in failed:
            raise malformed("llamaparse", "pages without numbers of their own")
        if _at(entry, "success") is False:
            failed[number] = "The parsing service could not read this page."
        elif isinstance(text, str):
            pages[number] = Page(number, clean(text))
        else:
            raise malformed("llamaparse", "a page without text")
    if failed and not pages:
        raise Permanent("The parsing service could not read any page of this file.")
    if not any(page.markdown.strip() for page in pages.values()):
        raise Permanent("No text was found in this file.")
    return Parsed(
        pages=[pages[number] for number in sorted(pages)],
        failed_pages=dict(sorted(failed.items())),
        credits=billed(_at(answer, "job", "usage", "credits")),
    )
