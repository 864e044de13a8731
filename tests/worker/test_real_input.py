"""Real documents and awkward uploads, through the SDK, the real listener and back out of the search."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from storage3.exceptions import StorageApiError

from tests import documents

LIMIT = 26_214_400
KNEE = documents.QUESTION

KINDS = {
    "guide.pdf": (
        documents.pdf_two_columns_with_table,
        [(KNEE, "500 dollars", 1), ("copay for a specialist", "40", 2)],
    ),
    "handbook.docx": (documents.docx, [(KNEE, "500 dollars", None), ("days of leave, more than 2 years", "30", None)]),
    "deck.pptx": (documents.pptx, [(KNEE, "500 dollars", 1), ("Who pays for glasses?", "two years", 4)]),
    "copays.xlsx": (
        documents.xlsx,
        [("copay for knee surgery", "500", None), ("Clinic number 33", "Reception desk 33", None)],
    ),
    "plan.html": (documents.html, [(KNEE, "500 dollars", None), ("What is the specialist copay?", "40 dollars", None)]),
    "plan.md": (documents.markdown, [(KNEE, "500 dollars", None), ("When must an appeal arrive?", "sixty days", None)]),
    "windows.txt": (documents.utf16_text, [(KNEE, "500 dollars", None), ("Größe", "Größe und Maße", None)]),
    "japanese.md": (documents.japanese, [("膝の手術の自己負担額", "五万円", None)]),
    "arabic.md": (documents.arabic, [("مبلغ الخصم لجراحة الركبة", "خمسمائة دولار", None)]),
}


@pytest.mark.parametrize("name", KINDS)
async def test_a_question_finds_its_answer_in_each_kind_of_document(user, listen, watch, name):
    await listen()
    make, questions = KINDS[name]
    await user.upload(name, make())
    job = await watch.ended(user, name)
    assert (job["state"], job["error"]) == ("completed", None)
    for question, answer, page in questions:
        hits = await user.search(question)
        assert answer in hits[0]["content"], (question, [hit["content"] for hit in hits])
        if page is not None:
            assert hits[0]["page"] == page
        assert hits[0]["name"] == f"{user.id}/{name}"


async def test_two_columns_are_read_one_after_the_other(user, listen, watch):
    await listen()
    await user.upload("guide.pdf", documents.pdf_two_columns_with_table())
    await watch.ended(user, "guide.pdf")
    rows = (await user.client.table("chunks").select("content,page").order("ordinal").execute()).data
    text = " ".join(" ".join(row["content"] for row in rows if row["page"] == 1).split())
    places = [
        text.find(words)
        for words in ("is covered from the first day", "is 500 dollars", "nearest hospital", "journeys")
    ]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("name", "make", "kind"),
    [
        ("guide.txt", documents.pdf_two_columns_with_table, "application/pdf"),
        ("notes.pdf", documents.markdown, "text/plain"),
        ("handbook.pdf", documents.docx, "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("no extension", documents.markdown, "text/plain"),
    ],
)
async def test_a_file_is_read_as_what_it_is_and_not_as_what_its_name_says(user, listen, watch, name, make, kind):
    await listen()
    await user.upload(name, make())
    assert (await watch.ended(user, name))["state"] == "completed"
    [document] = (await user.client.table("documents").select("media_type").execute()).data
    assert document["media_type"] == kind
    assert "500 dollars" in (await user.search(KNEE))[0]["content"]


async def test_a_scan_says_that_it_is_one_and_what_to_do(user, listen, watch):
    await listen()
    await user.upload("letter.pdf", documents.pdf_scanned())
    assert (await watch.ended(user, "letter.pdf"))["state"] == "dead"
    error = (await user.job("letter.pdf"))["error"]
    assert "scan" in error.lower() or "picture" in error.lower()
    assert "OCR" in error
    assert str(user.id) not in error and "/tmp" not in error


async def test_a_partly_scanned_file_is_searchable_and_names_the_pages_that_are_not(user, listen, watch):
    await listen()
    await user.upload("partly.pdf", documents.pdf_partly_scanned())
    assert (await watch.ended(user, "partly.pdf"))["state"] == "completed"
    [document] = (await user.client.table("documents").select("failed_pages,page_count").execute()).data
    assert "2" in document["failed_pages"]
    assert (await user.search(KNEE))[0]["page"] == 1


async def test_a_byte_too_many_is_refused_at_the_door_with_a_reason(user):
    with pytest.raises(StorageApiError) as refused:
        await user.upload("big.txt", b"a" * (LIMIT + 1))
    assert str(refused.value.status) == "413"
    assert "exceeded the maximum allowed size" in refused.value.message
    assert (await user.client.table("jobs").select("id").execute()).data == []


async def test_a_file_of_exactly_the_limit_gets_its_job_and_its_answer(user, listen, watch):
    """Mostly a blob that is no text, so that only the way through is measured and not the embedding."""
    await listen()
    content = documents.markdown()
    await user.upload("full.md", content + b" " * (LIMIT - len(content)))
    job = await watch.ended(user, "full.md")
    assert (job["state"], job["size"]) == ("completed", LIMIT)
    assert "500 dollars" in (await user.search(KNEE))[0]["content"]


@pytest.mark.parametrize(
    "name", ["a..b/...md", "it's quoted.md", "R&D & more.md", "a b+c=d;e,f@g!(h)$.md", "100.md", "x" * 150 + ".md"]
)
async def test_names_that_mean_something_elsewhere_are_only_names(user, listen, watch, name):
    await listen()
    await user.upload(name, documents.markdown())
    assert (await watch.ended(user, name))["state"] == "completed"
    assert (await user.search(KNEE))[0]["name"] == f"{user.id}/{name}"
    await user.client.storage.from_("documents").remove([f"{user.id}/{name}"])
    assert await user.search(KNEE) == []


async def test_a_folder_called_two_dots_is_refused_with_its_reason(project, user, other_user):
    """The SDK does not send such a name, and Storage would take it; the trigger does not."""
    name = f"../{other_user.id}/a.md"
    with pytest.raises(ValueError, match="dot segments"):
        await user.upload(name, documents.markdown())
    session = await user.client.auth.get_session()
    assert session is not None
    status, body = await asyncio.to_thread(
        _post_as_it_is, project, session.access_token, f"documents/{user.id}/{name}", documents.markdown()
    )
    assert status == 400
    assert "please rename it" in body
    assert (await user.client.table("jobs").select("id").execute()).data == []


def _post_as_it_is(project, token: str, path: str, content: bytes) -> tuple[int, str]:
    """Upload by a client that does not fold `..`; the status and body of the answer."""
    address = urlsplit(project.api_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    headers = {"apikey": project.anon_key, "authorization": f"Bearer {token}", "content-type": "text/markdown"}
    connection.request("POST", f"/storage/v1/object/{path}", content, headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("name", ["Größe.md", "日本語.md", "a[1].md", "a\nb.md", "a#b.md", 'a "b".md'])
async def test_a_name_that_storage_refuses_is_refused_with_its_reason(user, name):
    with pytest.raises(StorageApiError, match="Invalid key") as refused:
        await user.upload(name, documents.markdown())
    assert str(refused.value.status) == "400"
    assert (await user.client.table("jobs").select("id").execute()).data == []


def _memory(pid: str) -> int:
    """Peak resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def _descendants(pid: str) -> list[str]:
    """The children of a process and theirs: the server that forks, and what it forked for each file."""
    found = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in thread.read_text().split():
            found += [child, *_descendants(child)]
    return found


@pytest.mark.soak
async def test_25_megabytes_of_an_ordinary_pdf(user, project, watch, tmp_path):
    """Whole through a listener of its own process; prints seconds, passages and peak memory."""
    from tests.worker.test_many import start_listener

    content = documents.big_pdf(25)
    # the lease of every day: the short one of the other tests runs out where the machine is busy for minutes
    listener = await start_listener(
        project, tmp_path, UPLOAD_PIPELINE_PARSE_TIMEOUT_SECONDS="600", UPLOAD_PIPELINE_LEASE_SECONDS="60"
    )
    began = time.monotonic()
    peaks = {"listener": 0, "child": 0}
    try:
        await user.upload("big.pdf", content)
        while True:
            peaks["listener"] = max(peaks["listener"], _memory(str(listener.pid)))
            with contextlib.suppress(OSError):  # one that has just ended
                peaks["child"] = max(peaks["child"], *map(_memory, _descendants(str(listener.pid))))
            try:
                job = await watch.ended(user, "big.pdf", timeout=0.5)
                break
            except TimeoutError:
                assert time.monotonic() - began < 3600
                assert listener.poll() is None
    finally:
        listener.terminate()
        listener.wait(60)
    seconds = time.monotonic() - began
    assert (job["state"], job["error"]) == ("completed", None)
    count = await watch.until("select chunk_count, page_count from pipeline.documents where owner_id = %s", user.id)
    print(json.dumps({"bytes": len(content), "seconds": round(seconds, 1), **count, "peak_bytes": peaks}))
    hit = (await user.search(KNEE))[0]
    assert "500 dollars" in hit["content"]
    assert hit["page"] in (6, 7)  # a passage has the page on which it begins, and text flows from page to page
