"""LlamaParse's v2 parse API: upload, poll, collect, cancel, with scripted ends and a bill.

    fake = FakeLlamaParse()
    async with fake.serve() as base_url:
        fake.plan(Plan(polls=3, pages=["# One", "# Two"], failed={3: "timeout"}))
        fake.plan(Plan(end="FAILED", error="PDF_IS_PROTECTED"), Plan(end="hang"))
        fake.script.add(Fault(status=402, body={"detail": "…"}, path="/upload"))
        …
        fake.limits.requests.per_minute = 60
        fake.bill.pages

A Plan serves the next upload; without one, text is split into pages at form feeds and a PDF has as many pages as it
says.

An upload that names a webhook is told of its end, as its plan says: signed, and tried three times where nobody answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import re
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import httpx
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.embedded.fakes.limits import Limits
from pipeline.embedded.fakes.server import Script, scripted, serve
from pipeline.queue.webhook import signature

CREDITS_A_PAGE = {"fast": 1, "cost_effective": 3, "agentic": 10, "agentic_plus": 45}


@dataclass(frozen=True)
class Plan:
    """How one job goes. `end`: COMPLETED, FAILED, CANCELLED, or `hang`, which stays RUNNING for ever."""

    end: str = "COMPLETED"
    polls: int = 1
    """Looks at the job that find it unfinished."""
    takes: float | None = None
    """Seconds until it ends, whoever looks; in place of `polls`."""
    webhook: Literal["sent", "lost", "twice", "forged", "early"] = "sent"
    """What becomes of it, when the job ends; `early` is before the upload's answer, and the job ends then."""
    pages: Sequence[str] | None = None
    """Markdown of the pages; None makes them from the uploaded bytes."""
    failed: Mapping[int, str] = field(default_factory=dict)
    error: str | None = None
    age: timedelta = timedelta()
    """How long ago the job claims to have been created."""


@dataclass
class Bill:
    """What was asked for and what was bought: a job is paid for when it completes."""

    requests: int = 0
    uploads: int = 0
    pages: int = 0
    credits: float = 0
    bought: Counter[tuple[bytes, int]] = field(default_factory=Counter)
    """How often each page was bought: the SHA-256 of its file, and its number."""


@dataclass
class ParseJob:
    id: str
    plan: Plan
    tier: str
    version: str
    filename: str
    media_type: str | None
    content: bytes
    created: datetime
    webhooks: Sequence[Mapping[str, Any]] = ()
    looks: int = 0
    ended: bool = False
    cancelled: bool = False
    paid: bool = False

    @property
    def status(self) -> str:
        if self.cancelled:
            return "CANCELLED"
        timed = self.plan.takes is not None or self.plan.webhook == "early"
        waits = not self.ended if timed else self.looks <= self.plan.polls
        if self.plan.end == "hang" or waits:
            return "PENDING" if self.looks <= 1 else "RUNNING"
        return self.plan.end

    def pages(self) -> list[str]:
        if self.plan.pages is not None:
            return list(self.plan.pages)
        if self.content.startswith(b"%PDF"):
            count = len(re.findall(rb"/Type\s*/Page\b", self.content)) or 1
            return [f"# Page {number}\n\nText of page {number}." for number in range(1, count + 1)]
        return self.content.decode("utf-8", "replace").split("\f")


Read = Callable[[bytes, str], Awaitable[Sequence[str]]]
"""The pages of a file, from its bytes and its name; what it raises is the job's error."""


class FakeLlamaParse:
    """The service; `jobs` holds every upload by id, to look at or to change while it runs.

    `default` is how uploads go that no plan was made for; with `read` their pages are what it gives.
    """

    def __init__(self, *, key: str = "llx-fake-key", default: Plan | None = None, read: Read | None = None) -> None:
        self.key, self.default, self.read = key, default or Plan(), read
        self.script, self.bill, self.limits = Script(), Bill(), Limits()
        self.jobs: dict[str, ParseJob] = {}
        self.delivered: list[tuple[str, int]] = []
        """Job id and the status that each webhook was answered with, 0 for no answer, in order."""
        self._plans: list[Plan] = []
        self._tasks: set[asyncio.Task[None]] = set()
        routes = [
            ("/api/v2/parse/upload", self._upload, "POST"),
            ("/api/v2/parse/{job_id}/cancel", self._cancel, "POST"),
            ("/api/v2/parse/{job_id}", self._get, "GET"),
        ]
        self.app = Starlette(
            routes=[
                Route(path, self._counted(scripted(self.script, self._limited(do))), methods=[how])
                for path, do, how in routes
            ]
        )

    def plan(self, *plans: Plan) -> None:
        """How the next uploads go, in order."""
        self._plans += plans

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        async with serve(self.app, self.script) as url:
            try:
                yield url
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _counted(self, handler):
        async def counted(request: Request) -> Response:
            self.bill.requests += 1
            if request.headers.get("authorization") != f"Bearer {self.key}":
                return JSONResponse({"detail": "Invalid API Key"}, 401)
            return await handler(request)

        return counted

    def _limited(self, handler):
        """Behind a limit of requests alone, that tells how long to wait in whole seconds."""

        async def limited(request: Request) -> Response:
            if not self.limits.admit(0):
                wait = math.ceil(self.limits.requests.seconds_until(1))
                headers = {"retry-after": str(wait)} if self.limits.tells else {}
                return JSONResponse({"detail": "Rate limit exceeded"}, 429, headers=headers)
            return await handler(request)

        return limited

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            file, raw = form.get("file"), form.get("configuration")
            if not isinstance(file, UploadFile) or not isinstance(raw, str):
                return JSONResponse({"detail": [{"loc": ["body", "file"], "msg": "Field required"}]}, 422)
            configuration = json.loads(raw)
            for name in ("tier", "version"):
                if not configuration.get(name) or (name == "tier" and configuration[name] not in CREDITS_A_PAGE):
                    fault = {"loc": ["body", "configuration", name], "msg": "Input should be valid", "type": "enum"}
                    return JSONResponse({"detail": [fault]}, 422)
            content = await file.read()
            if not content or not file.filename:
                return JSONResponse({"detail": "File is empty"}, 400)
            plan = self._plans.pop(0) if self._plans else await self._unplanned(content, file.filename)
            job = ParseJob(
                id=f"pjb-{uuid.uuid4()}",
                plan=plan,
                tier=configuration["tier"],
                version=configuration["version"],
                filename=file.filename,
                media_type=file.content_type,
                content=content,
                created=datetime.now(UTC) - plan.age,
                webhooks=configuration.get("webhook_configurations") or (),
            )
        self.jobs[job.id] = job
        self.bill.uploads += 1
        if plan.webhook == "early":
            await self._end(job)
        elif plan.takes is not None:
            task = asyncio.create_task(self._end(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return JSONResponse(self._show(job))

    async def _get(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job_id"])
        if job is None:
            return JSONResponse({"detail": "Job not found"}, 404)
        job.looks += 1
        expand = {part for value in request.query_params.getlist("expand") for part in value.split(",")}
        answer: dict[str, Any] = {"job": self._show(job)}
        if job.status == "COMPLETED":
            pages = job.pages()
            numbers = [
                number for number in range(1, len(pages) + len(job.plan.failed) + 1) if number not in job.plan.failed
            ]
            if not job.paid:
                job.paid = True
                self.bill.pages += len(pages)
                self.bill.bought.update((hashlib.sha256(job.content).digest(), number) for number in numbers)
                self.bill.credits += len(pages) * CREDITS_A_PAGE[job.tier]
            if "markdown" in expand and job.tier != "fast":
                good = [
                    {"page_number": number, "markdown": text, "success": True}
                    for number, text in zip(numbers, pages, strict=True)
                ]
                bad = [{"page_number": n, "error": why, "success": False} for n, why in job.plan.failed.items()]
                answer["markdown"] = {"pages": sorted(good + bad, key=lambda page: page["page_number"])}
            if "text" in expand:
                answer["text"] = {
                    "pages": [{"page_number": n, "text": text} for n, text in zip(numbers, pages, strict=True)]
                }
        return JSONResponse(answer)

    async def _cancel(self, request: Request) -> Response:
        job = self.jobs.get(request.path_params["job_id"])
        if job is None:
            return JSONResponse({"detail": "Job not found"}, 404)
        job.cancelled = True
        return JSONResponse(self._show(job))

    async def _unplanned(self, content: bytes, name: str) -> Plan:
        if self.read is None:
            return self.default
        try:
            return replace(self.default, pages=await self.read(content, name))
        except Exception as error:
            return replace(self.default, end="FAILED", error=str(error))

    async def _end(self, job: ParseJob) -> None:
        await asyncio.sleep(job.plan.takes or 0)
        job.ended = True
        if job.plan.webhook == "lost":
            return
        for _ in range(2 if job.plan.webhook == "twice" else 1):
            for webhook in job.webhooks:
                await self.deliver(job.id, webhook, forged=job.plan.webhook == "forged")

    async def deliver(self, job_id: str, webhook: Mapping[str, Any], *, forged: bool = False) -> None:
        """Send one webhook, as an upload's `webhook_configurations` describe it."""
        kind = "parse.success" if self.jobs[job_id].status == "COMPLETED" else "parse.error"
        event = {"event_id": f"evt-{uuid.uuid4()}", "event_type": kind, "data": {"id": job_id, "job_id": job_id}}
        body = json.dumps(event)
        # the service's default is the event as a string in JSON
        body = (body if webhook.get("webhook_output_format") == "json" else json.dumps(body)).encode()
        secret = "the secret of somebody else" if forged else webhook.get("webhook_signing_secret", "")
        headers = {"content-type": "application/json", "lc-signature": signature(body, secret)}
        async with httpx.AsyncClient(timeout=5) as client:
            for _ in range(3):
                try:
                    status = (await client.post(webhook["webhook_url"], content=body, headers=headers)).status_code
                except httpx.HTTPError:
                    status = 0
                self.delivered.append((job_id, status))
                if status in range(200, 500):
                    return
                await asyncio.sleep(0.1)

    def _show(self, job: ParseJob) -> dict[str, Any]:
        return {
            "id": job.id,
            "project_id": "prj-fake",
            "status": job.status,
            "tier": job.tier,
            "name": job.filename,
            "created_at": job.created.isoformat(),
            "updated_at": job.created.isoformat(),
            "error_message": job.plan.error if job.status == "FAILED" else None,
            "usage": {"credits": len(job.pages()) * CREDITS_A_PAGE[job.tier]} if job.paid else None,
        }
