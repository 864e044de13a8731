"""A client app's whole journey with the SDKs alone, in JavaScript and in Python."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from pipeline.local.model import LocalEmbedder

HERE = Path(__file__).parent


async def question_vector(text: str) -> list[float]:
    embedder = LocalEmbedder()
    try:
        return [float(x) for x in (await embedder.embed([text]))[0]]
    finally:
        await embedder.close()


async def test_the_journey_in_javascript(project, node, listen):
    project.needs("sign_up_confirms")
    await listen(chunk_tokens=32, chunk_overlap=0)
    shutil.copy(HERE / "journey.mjs", node)
    process = await asyncio.create_subprocess_exec(
        "node", "journey.mjs", project.api_url, project.anon_key, json.dumps(await question_vector("knee surgery")),
        cwd=node, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), timeout=180)
    assert process.returncode == 0, errors.decode()
    seen = json.loads(out)
    assert seen["chunks"] >= 3000
    assert seen["broadcasts"] > 10


async def test_the_journey_in_python(user, listen):
    await listen(chunk_tokens=32, chunk_overlap=0)
    ended: dict[str, asyncio.Future[dict[str, Any]]] = {}
    loop = asyncio.get_running_loop()

    def job_changed(message: dict[str, Any]) -> None:
        job = message["payload"]
        if job["state"] in ("completed", "dead", "cancelled"):
            future = ended.setdefault(job["name"], loop.create_future())
            if not future.done():
                future.set_result(job)

    async def outcome(name: str) -> dict[str, Any]:
        return await asyncio.wait_for(ended.setdefault(f"{user.id}/{name}", loop.create_future()), timeout=60)

    subscribed = asyncio.Event()
    session = await user.client.auth.get_session()
    await user.client.realtime.set_auth(session.access_token)
    channel = user.client.channel(f"user:{user.id}:jobs", {"config": {"private": True}})
    channel.on_broadcast("job_changed", job_changed)
    await channel.subscribe(lambda status, error=None: subscribed.set() if status == "SUBSCRIBED" else None)
    await asyncio.wait_for(subscribed.wait(), timeout=10)

    await user.upload(
        "handbook.md",
        (
            "# Benefits\n\nThe deductible for knee surgery is 500 dollars.\n\n"
            "# 休暇\n\n年次有給休暇は一年に二十日です。"
        ).encode(),
    )
    assert (await outcome("handbook.md"))["state"] == "completed"
    await user.upload(
        "book.md",
        "\n\n".join(f"# Part {n % 7}\n\nThis is passage {n % 5} of the long book." for n in range(3000)).encode(),
    )
    assert (await outcome("book.md"))["state"] == "completed"

    document = (
        await user.client.table("documents")
        .select("id, chunk_count")
        .eq("name", f"{user.id}/book.md")
        .single()
        .execute()
    ).data
    ordinals: list[int] = []
    while True:
        page = (
            await user.client.table("chunks").select("ordinal").eq("document_id", document["id"])
            .order("ordinal").range(len(ordinals), len(ordinals) + 999).execute()
        ).data  # fmt: skip
        ordinals += [row["ordinal"] for row in page]
        if len(page) < 1000:
            break
    assert ordinals == list(range(document["chunk_count"]))
    assert len(ordinals) >= 3000

    assert "500 dollars" in (await user.search("How much is the deductible for knee surgery?"))[0]["content"]
    assert "500 dollars" in (await user.search('"knee surgery"'))[0]["content"]
    assert "二十日" in (await user.search("有給休暇"))[0]["content"]
    vector = await question_vector("an operation on my leg")
    [best, *_] = await user.search("an operation on my leg", query_embedding=vector, match_count=3)
    assert "500 dollars" in best["content"]
    assert best["matched_by"] in ("vector", "both")

    await user.upload("broken.pdf", b"%PDF-1.7 and no more")
    dead = await outcome("broken.pdf")
    assert dead["state"] == "dead"
    assert dead["error"]
    assert (await user.client.rpc("retry_job", {"job_id": dead["id"]}).execute()).data == "available"
    await user.client.storage.from_("documents").remove(
        [f"{user.id}/handbook.md", f"{user.id}/book.md", f"{user.id}/broken.pdf"]
    )
    assert await user.search("knee surgery") == []
    assert (await user.client.table("documents").select("id").execute()).data == []
    await channel.unsubscribe()
