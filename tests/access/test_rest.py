"""Attacks on the Data API, with raw HTTP and with the SDK: filters, embedding, schemas, functions, writes."""

from __future__ import annotations

import uuid

import pytest
from postgrest.exceptions import APIError

from tests.access.wire import MARK, TEXT, Street
from tests.project import MADE_BY_US
from tests.world import User

VIEWS = ("documents", "jobs", "chunks")


async def test_a_filter_breaks_out_of_its_condition(street: Street) -> None:
    """The attacker writes SQL where a value, a column or an order is expected: it is a value, or it is refused."""
    for query in (
        f"name=eq.{street.alices_name}",
        f"name=like.*{MARK}*",
        f"or=(name.like.*{MARK}*,id.gt.0)",
        "or=(id.gt.0,id.lte.0)",
        f"not.and=(name.neq.{street.alices_name})",
        "name=eq.x')%20or%20('1'='1",
        "name=eq.x'%20or%20true--",
        f"name=in.(%22{street.alices_name}%22)",
        "id=gt.0)%20union%20select%201--",
        "order=(select%201)",
        "order=name;drop%20table%20x",
        "select=*;select%201",
        "select=name,pg_sleep(1)",
        "select=count()",
        "select=name::regclass",
        "limit=1%20union%20select%201",
        "owner_id=not.is.null",
        "select=owner_id",
        "select=error_detail",
        "pg_sleep=eq.1",
        "name=fts.zanzibar",
        "and=(or(id.gt.0))",
        "&".join(["name=neq.x"] * 1001),
    ):
        for view in VIEWS:
            answer = await street.send("GET", f"/rest/v1/{view}?{query}", street.mallory)
            street.nothing_of_alice(answer) if answer.status_code < 400 else None
            assert answer.status_code < 500, (query, answer.text)
            if answer.status_code < 300:
                assert all(row.get("name", street.mallory.id).startswith(street.mallory.id) for row in answer.json())


async def test_an_embedded_resource_opens_what_the_view_closes(street: Street) -> None:
    """The attacker embeds tables, or another schema's, into a view of her own: none is a resource."""
    for select in (
        "*,jobs(*)",
        "*,documents(*)",
        "*,chunks(*)",
        "*,objects(*)",
        "*,users(*)",
        "*,pipeline.jobs(*)",
        "*,owners!inner(*)",
        "*,...documents(*)",
        "jobs(documents(chunks(*)))",
        "*,embeddings(*)",
    ):
        for view in VIEWS:
            answer = await street.send("GET", f"/rest/v1/{view}?select={select}", street.mallory)
            street.nothing_of_alice(answer)
            assert answer.status_code < 500


@pytest.mark.parametrize(
    "schema", ["pipeline", "auth", "storage", "realtime", "extensions", "pg_catalog", "information_schema"]
)
async def test_another_schema_is_asked_for(street: Street, schema: str) -> None:
    """The attacker names a schema that is not exposed, in the header or in the path: refused."""
    for method, header in (("GET", "accept-profile"), ("POST", "content-profile"), ("PATCH", "content-profile")):
        answer = await street.send(
            method,
            "/rest/v1/jobs",
            street.mallory,
            headers={header: schema},
            content=b"{}" if method != "GET" else None,
        )
        assert answer.status_code == 406, answer.text
    for path in (f"{schema}.jobs", f"{schema}.users", f"%22{schema}%22.%22jobs%22"):
        assert (await street.send("GET", f"/rest/v1/{path}", street.mallory)).status_code == 404


async def test_functions_of_the_private_schema_are_called(street: Street) -> None:
    """The attacker calls the queue's functions, the platform's and Postgres's own over the Data API: they do not
    exist."""
    for name in (
        "claim",
        "pipeline.claim",
        "retry",
        "cancel",
        "publish",
        "caller",
        "create_space",
        "pg_sleep",
        "pg_read_file",
        "uid",
        "send",
        "set_config",
        "lo_import",
        "query_to_xml",
    ):
        for method in ("POST", "GET"):
            answer = await street.send(
                method, f"/rest/v1/rpc/{name}", street.mallory, **({"json": {}} if method == "POST" else {})
            )
            assert answer.status_code == 404, (name, answer.text)
            answer = await street.send(
                "POST", f"/rest/v1/rpc/{name}", street.mallory, json={}, headers={"content-profile": "pipeline"}
            )
            assert answer.status_code == 406


async def test_an_overload_that_is_not_meant_is_called(street: Street) -> None:
    """The attacker calls a function with more, fewer, other or twisted arguments: the one function, or none."""
    job = (await street.sql("select id from pipeline.jobs where name = %s", street.alices_name))[0][0]
    for arguments in (
        {},
        {"query_text": "x", "owner": street.alice.id},
        {"query_text": "x", "owner_id": street.alice.id},
        {"question": "x"},
        {"query_text": ["zanzibar"]},
        {"query_text": {"a": 1}},
        {"query_text": "x", "query_embedding": "x"},
        {"query_text": "x", "query_embedding": [1, 2]},
        {"query_text": "x", "match_count": "1; select 1"},
        [1],
        [{"query_text": MARK}],
        "x",
    ):
        answer = await street.send("POST", "/rest/v1/rpc/search", street.mallory, json=arguments)
        street.nothing_of_alice(answer)
        assert answer.status_code < 500, answer.text
    for arguments in ({"job_id": job}, {"job_id": str(job)}, {"job_id": job, "owner_id": street.alice.id}):
        for function in ("retry_job", "cancel_job"):
            answer = await street.send("POST", f"/rest/v1/rpc/{function}", street.mallory, json=arguments)
            assert answer.status_code == 404, answer.text
    # read only: a GET cannot call what writes
    answer = await street.send("GET", f"/rest/v1/rpc/retry_job?job_id={job}", street.alice)
    assert answer.status_code >= 400


async def test_job_rows_are_written_over_http(street: Street) -> None:
    """The attacker inserts, changes and deletes jobs, documents and passages, also her own: refused, nothing
    changes."""
    before = await street.sql("select id, state, attempt from pipeline.jobs order by id")
    row = {"name": f"{street.mallory.id}/x", "state": "available", "document_id": str(uuid.uuid4())}
    for view in VIEWS:
        for who in (street.mallory, None):
            for method, path, body in (
                ("POST", view, row),
                ("POST", f"{view}?on_conflict=id", row),
                ("PATCH", f"{view}?id=gt.0", {"state": "available"}),
                ("DELETE", f"{view}?id=not.is.null", None),
                ("PUT", f"{view}?id=eq.1", row),
            ):
                answer = await street.send(
                    method,
                    f"/rest/v1/{path}",
                    who,
                    json=body,
                    headers={"prefer": "return=representation,resolution=merge-duplicates"},
                )
                assert answer.status_code >= 400, answer.text  # 500 where a view cannot be written at all, as on hosted
    with pytest.raises(APIError):
        await street.mallory.client.table("jobs").insert(row).execute()
    assert await street.sql("select id, state, attempt from pipeline.jobs order by id") == before


async def test_counts_tell_of_others(street: Street) -> None:
    """The attacker asks how many rows there are, exactly, planned or estimated: her own only, as far as she is told."""
    for view in VIEWS:
        for kind in ("exact", "planned", "estimated"):
            for method in ("HEAD", "GET"):
                answer = await street.send(
                    method, f"/rest/v1/{view}?select=id", street.mallory, headers={"prefer": f"count={kind}"}
                )
                if answer.status_code < 300 and kind == "exact":
                    assert answer.headers["content-range"].endswith("/1"), view
        answer = await street.send(
            "GET", f"/rest/v1/{view}", street.mallory, headers={"accept": "application/vnd.pgrst.plan+json"}
        )
        assert answer.status_code >= 400, "a plan tells how large tables are"


async def test_search_over_http_finds_others(street: Street) -> None:
    """The attacker searches for another's words, folder and vector through the API: nothing of it, not even a score."""
    [vector] = await street.sql(
        "select e.embedding::text from pipeline.embeddings e where owner_id = %s limit 1", street.alice.id
    )
    for body in (
        {"query_text": MARK},
        {"query_text": TEXT},
        {"query_text": "", "query_embedding": vector[0]},
        {"query_text": TEXT, "query_embedding": vector[0], "match_count": 1000},
        {"query_text": MARK, "path_prefix": street.alice.id},
    ):
        answer = await street.send("POST", "/rest/v1/rpc/search", street.mallory, json=body)
        assert answer.status_code == 200, answer.text
        street.nothing_of_alice(answer)
        assert (await street.send("POST", "/rest/v1/rpc/search", None, json=body)).status_code == 401
    assert (await street.alice.search(MARK))[0]["name"] == street.alices_name


async def test_settings_of_the_request_are_forged(street: Street) -> None:
    """The attacker sends headers that a server might take for its own: who she is comes from the token alone."""
    forged = {
        "x-user-id": street.alice.id,
        "request.jwt.claims": f'{{"sub": "{street.alice.id}"}}',
        "x-supabase-role": "service_role",
        "role": "service_role",
        "x-forwarded-user": street.alice.id,
        "prefer": "tx=commit,params=single-object",
    }
    for view in VIEWS:
        answer = await street.send("GET", f"/rest/v1/{view}", street.mallory, headers=forged)
        street.nothing_of_alice(answer)
        assert (await street.send("GET", f"/rest/v1/{view}", None, headers=forged)).status_code == 401


async def test_an_anonymous_sign_in_has_nothing_until_it_is_switched_on(street: Street) -> None:
    """Somebody signs in without a name, through the SDK, as on the real server: a token, and nothing that it opens."""
    from supabase import acreate_client

    street.project.needs("anonymous_sign_ins")
    client = await acreate_client(street.project.api_url, street.project.anon_key)
    guest = (await client.auth.sign_in_anonymously({"options": {"data": MADE_BY_US}})).user
    assert guest is not None and guest.is_anonymous
    person = User(client, guest.id, "")
    with pytest.raises(Exception, match="row-level security"):
        await person.upload("a.md", b"# Text\n\nof a guest")
    with pytest.raises(APIError, match="signed-in user"):
        await person.search("text")
    for view in VIEWS:
        assert (await client.table(view).select("*").execute()).data == []
    await street.sql("update pipeline.settings set anonymous_sign_ins = true")
    try:
        await person.upload("a.md", b"# Text\n\nof a guest")
        assert [row["name"] for row in (await client.table("jobs").select("name").execute()).data] == [
            f"{guest.id}/a.md"
        ]
    finally:
        await street.sql("update pipeline.settings set anonymous_sign_ins = false")
    assert (await client.table("jobs").select("name").execute()).data == []
