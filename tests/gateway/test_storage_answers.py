"""Storage answers as the real one did: the recorded requests, in order, against the project under test."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from storage_replay import Answer, Replay, recorded

from tests.world import new_user

EXCEPTIONS = {
    "upload no key at all": (
        "On a hosted project the platform's own gateway refuses a request without a key, before it reaches Storage. "
        "The embedded gateway says what that one says."
    ),
    "OPTIONS": "A browser's preflight is answered by the platform's gateway, before it reaches Storage. Here too.",
    "render": (
        "Image transformations were switched off in the recorded server, which then has no such route. Here they are "
        "refused with 501 and a sentence."
    ),
    "bucket create type": (
        "Analytics buckets are refused with 501 and a sentence; the recorded server had one of that name already."
    ),
    "tus options": (
        "`Tus-Max-Size` is a project's setting: 500 MiB in the recorded server, 50 MiB here as on a new hosted project."
    ),
    'list {"prefix": "{U}", "sortBy": {"column": "name", "order": "desc"}}': (
        "In descending order the real server leaves out folders that it steps over: one with an empty name, and one "
        "whose only entry is its own name with a slash. Here both orders list the same entries."
    ),
}
"""Where the gateway answers otherwise, by the label of the request, each with its reason."""
MOST_EXCEPTIONS = 15
RACES = {
    "GET public nobucket": '{"code": "NoSuchBucket", "error": "Bucket not found", "message": "Bucket not found", '
    '"statusCode": "404"}',
}
"""What else the real server may say: it looks for two things at once, and names the one that is first found missing."""
PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"

_ROWS = recorded()
_COMPARED = {name for row in _ROWS if "answer" in row for name in row["answer"]["headers"]}


@pytest.fixture(scope="module")
async def answers(project: Any) -> list[Answer | None]:
    """What the project answers to each row; None for a wait."""
    u, v = await new_user(project), await new_user(project)
    tokens = {
        "u": u.token,
        "v": v.token,
        "anon": project.anon_key,
        "srv": project.service_role_key,
        "bad": "no.such.token",
    }
    replay = Replay(f"{project.api_url}/storage/v1", project.anon_key, {"u": u.id, "v": v.id}, tokens)
    # the recorded server had this bucket from before
    left_over = {"label": "", "method": "POST", "path": "/bucket", "as_": "srv", "headers": []}
    await replay.send(left_over | {"json": {"id": "b-3", "name": "b-three"}})
    given: list[Answer | None] = []
    for row in _ROWS:
        if "seconds" in row:
            await asyncio.sleep(row["seconds"])  # a token has to expire, and its clock is the real one
            given.append(None)
        else:
            given.append(await replay.send(row))
    await replay.send(left_over | {"method": "DELETE", "path": "/bucket/b-3"})
    return given


def differences(row: dict[str, Any], given: Answer) -> list[str]:
    """What a client would notice, in words."""
    wanted = Replay.expected(row)
    found = []
    if given.status != wanted.status:
        found.append(f"status {given.status}, not {wanted.status}")
    if given.body not in (wanted.body, RACES.get(row["label"], wanted.body)):
        found.append(f"body {given.body[:2000]!r}, not {wanted.body[:2000]!r}")
    for name in sorted(_COMPARED):
        # of an answer in JSON the length was not recorded
        if name == "content-length" and name not in wanted.headers:
            continue
        if given.headers.get(name) != wanted.headers.get(name):
            found.append(f"{name}: {given.headers.get(name)!r}, not {wanted.headers.get(name)!r}")
    return found


@pytest.mark.parametrize(
    "number",
    [number for number, row in enumerate(_ROWS) if "answer" in row and row["label"] not in EXCEPTIONS],
    ids=lambda number: f"{number} {_ROWS[number]['label']}"[:60],
)
def test_the_answer_is_the_real_servers(answers: list[Answer | None], number: int) -> None:
    given = answers[number]
    assert given is not None
    assert differences(_ROWS[number], given) == []


@pytest.mark.embedded("the exceptions are the embedded gateway's")
def test_the_exceptions_are_few_and_still_needed(answers: list[Answer | None]) -> None:
    excepted = [number for number, row in enumerate(_ROWS) if row["label"] in EXCEPTIONS]
    assert len(excepted) == len(EXCEPTIONS) <= MOST_EXCEPTIONS
    for number in excepted:
        given = answers[number]
        assert given is not None and differences(_ROWS[number], given) != [], (
            f"{_ROWS[number]['label']} is none any more"
        )


def test_the_documentation_names_the_exceptions_and_their_reasons() -> None:
    page = PAGE.read_text(encoding="utf-8")
    listed = re.search(r"^\| request \| reason \|\n\|---\|---\|\n((?:\|.*\|\n)+)", page, re.MULTILINE)
    assert listed is not None
    rows = (row.removeprefix("| `").removesuffix(" |").split("` | ", 1) for row in listed[1].splitlines())
    assert {label: reason for label, reason in rows} == EXCEPTIONS
    requests = sum("answer" in row for row in _ROWS)
    assert f"holds {requests} requests" in page
    assert f"save for {len(EXCEPTIONS)}:" in page
