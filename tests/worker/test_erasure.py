"""A user is deleted through Auth's admin API while a listener works: files, content and search, all of it."""

from __future__ import annotations

import pytest

from pipeline.operate.checks import check
from supabase import acreate_client
from tests import documents
from tests.world import User, listener_settings


async def admin(project):
    return await acreate_client(project.api_url, project.service_role_key)


async def files_of(project, user: User, folder: str = "") -> list[str]:
    client = await admin(project)
    return [entry["name"] for entry in await client.storage.from_("documents").list(f"{user.id}{folder}")]


async def test_files_content_and_search_are_gone_and_another_users_stay(project, user, other_user, listen, watch):
    await listen()
    for person in (user, other_user):
        await person.upload("plan.md", documents.markdown())
        await person.upload("deep/er/plan.docx", documents.docx())
        assert (await watch.ended(person, "plan.md"))["state"] == "completed"
        assert (await watch.ended(person, "deep/er/plan.docx"))["state"] == "completed"
    assert await user.search(documents.QUESTION)

    await (await admin(project)).auth.admin.delete_user(user.id)
    receipt = await watch.until(
        "select * from pipeline.receipts where pseudonym = pipeline.pseudonym(%s) and emptied_at is not null", user.id
    )
    assert receipt["files"] == receipt["documents"] == receipt["jobs"] == 2
    assert receipt["bytes"] == len(documents.markdown()) + len(documents.docx())
    assert await files_of(project, user) == []
    assert sorted(await files_of(project, other_user)) == ["deep", "plan.md"]
    with pytest.raises(Exception, match="signed-in user"):
        await user.search(documents.QUESTION)
    assert await other_user.search(documents.QUESTION)
    with pytest.raises(Exception, match="row-level security"):
        await user.upload("late.md", documents.markdown())


async def test_what_is_being_read_when_its_user_goes_is_not_published(project, user, listen, watch):
    await listen(parse_timeout_seconds=60)
    await user.upload("slow.pdf", documents.killer_pdf())
    await watch.until("select from pipeline.jobs where owner_id = %s and stage = 'parse'", user.id)
    await (await admin(project)).auth.admin.delete_user(user.id)
    await watch.until("select from pipeline.receipts where pseudonym = pipeline.pseudonym(%s) and jobs = 1", user.id)
    assert await files_of(project, user) == []


async def test_a_storage_that_does_not_answer_postpones_it(project, user, listen, watch):
    await user.upload("plan.md", documents.markdown())
    await (await admin(project)).auth.admin.delete_user(user.id)
    ours = "select * from pipeline.receipts where pseudonym = pipeline.pseudonym(%s)"
    stop = await listen(supabase_url="http://127.0.0.1:9")
    failing = await watch.until(f"{ours} and failures > 0", user.id)
    assert failing["state"] == "failing" and failing["last_error"] == "Storage does not answer: ConnectError"
    found = {finding.name: finding for finding in await check(listener_settings(project))}
    assert found["erasures"].ok is False and "ConnectError" in found["erasures"].detail
    stop.set()
    assert await files_of(project, user) == ["plan.md"]
    await watch.connection.execute("update pipeline.erasures set due_at = pipeline.now() where failures > 0")
    await listen()
    await watch.until(f"{ours} and emptied_at is not null and last_error is null", user.id)
    assert await files_of(project, user) == []
