"""The Data API against a real database: what supabase-py sees of it, and the wire where the SDK hides it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from api_world import Person, World, start_world
from postgrest import CountMethod, ReturnMethod
from postgrest.exceptions import APIError

ARRAY = {"Accept": "application/vnd.pgrst.array+json;nulls=stripped"}
OBJECT = {"Accept": "application/vnd.pgrst.object+json"}


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with start_world() as world:
        yield world


@pytest.fixture
async def alice(world: World) -> Person:
    """Somebody with four notes of their own, a to d."""
    person = world.person()
    rows = [
        {"title": "a", "rank": 1, "tags": ["x", "y"], "data": {"k": {"n": 1}}, "span": "[1,5)"},
        {"title": "b", "rank": 2, "tags": ["y"], "data": {"k": {"n": 2}}, "span": "[5,9)"},
        {"title": "c", "rank": 3, "tags": [], "data": None, "span": None},
        {"title": "d", "rank": None, "tags": None, "data": [1, {"z": "q"}], "span": None},
    ]
    await person.data.from_("notes").insert(rows).execute()
    return person


async def titles(person: Person, query: str) -> str:
    """The titles that a query string yields, in a row."""
    answer = await person.send("GET", f"/notes?select=title&{query}")
    assert answer.status_code == 200, answer.text
    return "".join(row["title"] for row in answer.json())


# reading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rank=eq.2", "b"),
        ("rank=neq.2", "ac"),
        ("rank=gt.1&rank=lt.3", "b"),
        ("rank=gte.2", "bc"),
        ("rank=lte.2", "ab"),
        ("rank=not.lte.2", "c"),
        ("title=like.*b*", "b"),
        ("title=like.%25b%25", "b"),
        ("title=ilike.B", "b"),
        ("title=match.^[ab]$", "ab"),
        ("title=imatch.^[AB]$", "ab"),
        ("title=like(any).{a*,b*}", "ab"),
        ("rank=is.null", "d"),
        ("rank=is.not_null", "abc"),
        ("rank=isdistinct.2", "acd"),
        ("title=in.(a,c)", "ac"),
        ("title=not.in.(a,c)", "bd"),
        ("title=in.()", ""),
        ("tags=cs.{y}", "ab"),
        ("tags=cd.{y,z}", "bc"),
        ("tags=ov.{x,z}", "a"),
        ('data=cs.{"k":{"n":2}}', "b"),
        ("span=cs.[2,3)", "a"),
        ("span=sl.[5,6)", "a"),
        ("span=sr.[0,2)", "b"),
        ("span=adj.[5,9)", "a"),
        ("data->k->>n=eq.2", "b"),
        ("data->1->>z=eq.q", "d"),
        ("title=fts(simple).a|b", "ab"),
        ("title=plfts(simple).a", "a"),
        ("title=phfts(simple).a", "a"),
        ("title=wfts(simple).a or c", "ac"),
        ("or=(rank.eq.1,title.eq.d)", "ad"),
        ("and=(rank.gt.1,or(title.eq.a,title.eq.b))", "b"),
        ("not.or=(rank.eq.1,rank.eq.2)", "c"),
        ('or=(title.in.("a","b"),tags.cs.{x,y})', "ab"),
    ],
)
async def test_each_operator_filters(alice: Person, query: str, expected: str) -> None:
    assert await titles(alice, query + "&order=title") == expected


async def test_order_limit_and_offset(alice: Person) -> None:
    assert await titles(alice, "order=rank.desc.nullslast,title") == "cbad"
    assert await titles(alice, "order=rank.desc") == "dcba"
    assert await titles(alice, "order=rank.nullsfirst") == "dabc"
    assert await titles(alice, "order=data->k->n.desc.nullslast&limit=1") == "b"
    assert await titles(alice, "order=title&limit=2&offset=1") == "bc"


async def test_select_shapes_the_rows(alice: Person) -> None:
    answer = await alice.data.from_("notes").select("name:title", "data->k->n", "rank::text").order("title").execute()
    assert answer.data[0] == {"name": "a", "n": 1, "rank": "1"}
    stripped = await alice.send("GET", "/notes?select=title,rank&title=eq.d", headers=ARRAY)
    assert stripped.json() == [{"title": "d"}]


async def test_supabase_py_reads_pages_and_counts(alice: Person) -> None:
    page = await alice.data.from_("notes").select("title", count=CountMethod.exact).order("title").range(1, 2).execute()
    assert ([row["title"] for row in page.data], page.count) == (["b", "c"], 4)
    head = await alice.data.from_("notes").select("*", count=CountMethod.exact, head=True).execute()
    assert (head.data, head.count) == ([], 4)
    for method in (CountMethod.planned, CountMethod.estimated):
        assert (await alice.data.from_("notes").select("*", count=method).execute()).count == 4


async def test_content_range_tells_the_page_and_the_total(alice: Person) -> None:
    whole = await alice.send("GET", "/notes")
    assert (whole.status_code, whole.headers["content-range"]) == (200, "0-3/*")
    part = await alice.send("GET", "/notes?limit=2&offset=1", headers={"Prefer": "count=exact"})
    assert (part.status_code, part.headers["content-range"]) == (206, "1-2/4")
    assert part.headers["preference-applied"] == "count=exact"
    ranged = await alice.send("GET", "/notes", headers={"Range-Unit": "items", "Range": "2-9"})
    assert ranged.headers["content-range"] == "2-3/*"
    end = await alice.send("GET", "/notes?offset=4", headers={"Prefer": "count=exact"})
    assert (end.status_code, end.headers["content-range"], end.json()) == (206, "*/4", [])
    behind = await alice.send("GET", "/notes?offset=5", headers={"Prefer": "count=exact"})
    assert (behind.status_code, behind.json()["code"]) == (416, "PGRST103")


async def test_a_page_has_a_thousand_rows_at_most(alice: Person) -> None:
    answer = await alice.send("POST", "/rpc/numbers", json={"top": 1500}, headers={"Prefer": "count=exact"})
    assert (len(answer.json()), answer.headers["content-range"]) == (1000, "0-999/1500")
    rest = await alice.send("POST", "/rpc/numbers?offset=1000&limit=5000", json={"top": 1500})
    assert (len(rest.json()), rest.json()[0]) == (500, 1001)


async def test_one_object_or_an_error(alice: Person) -> None:
    one = await alice.data.from_("notes").select("title").eq("title", "a").single().execute()
    assert one.data == {"title": "a"}
    with pytest.raises(APIError) as caught:
        await alice.data.from_("notes").select("title").single().execute()
    assert caught.value.code == "PGRST116"
    assert caught.value.details == "The result contains 4 rows"
    assert (await alice.send("GET", "/notes?title=eq.zz", headers=OBJECT)).status_code == 406
    assert await alice.data.from_("notes").select("title").eq("title", "zz").maybe_single().execute() is None


async def test_head_answers_without_a_body(alice: Person) -> None:
    answer = await alice.send("HEAD", "/notes?limit=1", headers={"Prefer": "count=exact"})
    assert (answer.status_code, answer.headers["content-range"], answer.content) == (206, "0-0/4", b"")
    broken = await alice.send("HEAD", "/notes?nope=eq.1")
    assert (broken.status_code, broken.content) == (400, b"")
    assert broken.headers["proxy-status"] == "PostgREST; error=42703"


async def test_row_level_security_hides_everybody_elses_rows(world: World, alice: Person) -> None:
    assert (await world.person().data.from_("notes").select("*").execute()).data == []
    assert (await world.person("anon").data.from_("notes").select("*").execute()).data == []
    assert len((await alice.data.from_("titles").select("*").execute()).data) == 4
    service = await world.person("service_role").send("GET", f"/notes?owner=eq.{alice.id}")
    assert len(service.json()) == 4


# changing ------------------------------------------------------------------------------------------------------------


async def test_insert_returns_what_is_asked_for(world: World) -> None:
    person = world.person()
    made = await person.data.from_("notes").insert({"title": "ä\u2028😀"}).execute()
    assert made.data[0]["title"] == "ä\u2028😀"
    assert (made.data[0]["rank"], made.data[0]["owner"]) == (7, person.id)
    minimal = await person.send("POST", "/notes", json={"title": "m"}, headers={"Prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (201, b"")
    chosen = await person.send(
        "POST", "/notes?select=title", json=[{"title": "n"}], headers={"Prefer": "return=representation,count=exact"}
    )
    assert (chosen.json(), chosen.headers["content-range"]) == ([{"title": "n"}], "*/1")


async def test_a_column_that_a_row_leaves_out_is_null_or_its_default(world: World) -> None:
    person = world.person()
    rows = [{"title": "p", "rank": 1}, {"title": "q"}]
    await person.data.from_("notes").insert(rows, default_to_null=False).execute()
    await person.data.from_("notes").upsert([{"title": "r", "rank": 1}, {"title": "s"}]).execute()
    answer = await person.data.from_("notes").select("title,rank").order("title").execute()
    assert [row["rank"] for row in answer.data] == [1, 7, 1, None]


async def test_upsert_merges_or_ignores(alice: Person) -> None:
    table = alice.data.from_("notes")
    merged = await table.upsert({"owner": alice.id, "title": "a", "rank": 9}, on_conflict="owner,title").execute()
    assert merged.data[0]["rank"] == 9
    ignored = await table.upsert(
        {"owner": alice.id, "title": "a", "rank": 10}, on_conflict="owner,title", ignore_duplicates=True
    ).execute()
    assert ignored.data == []
    by_key = await table.upsert({"id": merged.data[0]["id"], "title": "aa"}).execute()
    assert (by_key.data[0]["title"], by_key.data[0]["rank"]) == ("aa", 9)


async def test_update_and_delete_touch_what_the_filters_choose(alice: Person) -> None:
    table = alice.data.from_("notes")
    changed = await table.update({"rank": 5, "tags": ["z"]}).in_("title", ["a", "b"]).execute()
    assert sorted((row["title"], row["rank"], row["tags"][0]) for row in changed.data) == [("a", 5, "z"), ("b", 5, "z")]
    gone = await table.delete(count=CountMethod.exact).eq("title", "a").execute()
    assert ([row["title"] for row in gone.data], gone.count) == (["a"], 1)
    quiet = (
        await alice.data.from_("notes").update({"rank": 6}, returning=ReturnMethod.minimal).eq("title", "b").execute()
    )
    assert quiet.data == []
    assert (await alice.send("PATCH", "/notes?title=eq.b", json={"rank": 6})).status_code == 204
    assert (await alice.send("PATCH", "/notes", json={}, headers={"Prefer": "return=representation"})).json() == []


async def test_a_change_of_more_rows_than_allowed_is_rolled_back(alice: Person) -> None:
    with pytest.raises(APIError) as caught:
        await alice.data.from_("notes").delete().gt("rank", 0).max_affected(2).execute()
    assert caught.value.code == "PGRST124"
    headers = OBJECT | {"Prefer": "return=representation"}
    assert (await alice.send("DELETE", "/notes", headers=headers)).status_code == 406
    assert await titles(alice, "order=title") == "abcd"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "PGRST102"),
        (b"{", "PGRST102"),
        (b"3", "PGRST102"),
        (b'[{"title": "x"}, {"rank": 1}]', "PGRST102"),
        (b'{"nope": 1}', "PGRST204"),
        (b'{"title": NaN}', "22P02"),
        (b'{"title": "a", "rank": "x"}', "22P02"),
        (b'{"title": "a\\u0000b"}', "22P05"),
        (b'{"title": null}', "23502"),
        (b'{"title": "\xff"}', "PGRST102"),
    ],
)
async def test_a_body_that_cannot_be_inserted_is_a_400(alice: Person, body: bytes, code: str) -> None:
    answer = await alice.send("POST", "/notes", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_nothing_inserted_is_no_error(alice: Person) -> None:
    answer = await alice.send("POST", "/notes", json=[], headers={"Prefer": "return=representation"})
    assert (answer.status_code, answer.json()) == (201, [])


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "PGRST205"),
        ("GET", "/secrets", 404, "PGRST205"),
        ("GET", "/pg_class", 404, "PGRST205"),
        ("GET", "/notes?nope=eq.1", 400, "42703"),
        ("GET", "/notes?select=nope", 400, "42703"),
        ("GET", "/notes?order=nope", 400, "42703"),
        ("GET", "/notes?select=title::nonsense", 400, "42704"),
        ("GET", "/notes?id=eq.x", 400, "22P02"),
        ("GET", "/notes?title=x", 400, "PGRST100"),
        ("GET", "/notes?limit=-1", 400, "PGRST100"),
        ("GET", "/notes?title=match.[", 400, "2201B"),
        ("GET", "/notes?title=fts(klingon).x", 400, "42704"),
        ("GET", "/notes?title=eq.%00", 400, "22021"),
        ("GET", "/notes?%00=eq.1", 400, "22021"),
        ("GET", "/notes?select=owner(*)", 400, "PGRST127"),
        ("PUT", "/notes?id=eq.1", 400, "PGRST127"),
        ("DELETE", "/notes?limit=1", 400, "PGRST127"),
        ("GET", "/", 400, "PGRST127"),
        ("GET", "/a/b", 404, "PGRST125"),
        ("GET", "/untouchable", 403, "42501"),
        ("DELETE", "/rpc/add", 405, "PGRST101"),
        ("POST", "/rpc/nope", 404, "PGRST202"),
        ("POST", "/rpc/hang", 500, "57014"),
        ("POST", "/rpc/locked", 403, "42501"),
        ("POST", "/rpc/complain", 400, "P0001"),
        ("POST", "/rpc/conflict", 409, "PT409"),
        ("GET", "/rpc/nothing?into_rank=1", 405, "25006"),
    ],
)
async def test_each_error_has_its_status_and_code(
    alice: Person, method: str, path: str, status: int, code: str
) -> None:
    answer = await alice.send(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json().keys() == {"code", "message", "details", "hint"}
    assert answer.headers["content-type"].startswith("application/json")


async def test_without_a_user_forbidden_reads_unauthorized(world: World) -> None:
    answer = await world.person("anon").send("GET", "/untouchable")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    insert = await world.person("anon").send("POST", "/notes", json={"title": "x"})
    assert (insert.status_code, insert.json()["code"]) == (401, "42501")


async def test_a_conflict_is_a_409_with_its_details(alice: Person) -> None:
    with pytest.raises(APIError) as caught:
        await alice.data.from_("notes").insert({"title": "a"}).execute()
    assert caught.value.code == "23505"
    assert "notes_owner_title_key" in str(caught.value.message)
    raised = await alice.send("POST", "/rpc/conflict")
    assert raised.json() == {"code": "PT409", "message": "the job is running", "details": "since noon", "hint": "wait"}


async def test_another_owners_row_cannot_be_inserted(world: World, alice: Person) -> None:
    answer = await alice.send("POST", "/notes", json={"title": "x", "owner": world.person().id})
    assert (answer.status_code, answer.json()["code"]) == (403, "42501")
    assert "row-level security" in answer.json()["message"]


async def test_only_the_public_schema_is_exposed(alice: Person) -> None:
    for method, header in (("GET", "Accept-Profile"), ("POST", "Content-Profile")):
        refused = await alice.send(method, "/secrets", headers={header: "hidden"}, json={})
        assert (refused.status_code, refused.json()["code"]) == (406, "PGRST106")
        assert "public" in refused.json()["hint"]
    assert (await alice.send("GET", "/notes", headers={"Accept-Profile": "public"})).status_code == 200


async def test_forms_that_are_not_json_are_refused(alice: Person) -> None:
    answer = await alice.send("GET", "/notes", headers={"Accept": "text/csv"})
    assert (answer.status_code, answer.json()["code"]) == (406, "PGRST107")
    form = await alice.send("POST", "/notes", data={"title": "x"})
    assert form.status_code == 415


async def test_a_strict_request_names_what_it_cannot_have(alice: Person) -> None:
    answer = await alice.send("GET", "/notes", headers={"Prefer": "handling=strict, wings=2"})
    assert (answer.status_code, answer.json()["code"]) == (400, "PGRST122")


INJECTIONS = [
    "'; drop table public.notes; --",
    '"; drop table public.notes; --',
    "x' or '1'='1",
    "%s %(p0)s %% $1",
    "\\'; select pg_sleep(9); --",
    "{a},'b'\"c\\",
]


@pytest.mark.parametrize("text", INJECTIONS)
async def test_no_text_becomes_sql(world: World, alice: Person, text: str) -> None:
    """Each place of a request that takes a client's text, with texts that would end a literal or a name."""
    places: list[dict[str, Any]] = [
        {"params": {"title": f"eq.{text}"}},
        {"params": {"title": f"in.({text})"}},
        {"params": {"title": f"fts({text}).{text}"}},
        {"params": {text: "eq.1"}},
        {"params": {"select": text}},
        {"params": {"select": f'"{text}"'}},
        {"params": {"select": f'x:data->>"{text}"'}},
        {"params": {"select": f"title::{text}"}},
        {"params": {"select": f'"{text}":title'}},
        {"params": {"order": f'"{text}"'}},
        {"params": {"order": f"title.{text}"}},
        {"params": {"or": f"(title.eq.{text})"}},
        {"params": {"limit": text}},
    ]
    for place in places:
        assert (await alice.send("GET", "/notes", **place)).status_code in (200, 400), place
        assert (await alice.send("DELETE", "/notes", **place)).status_code in (204, 400), place
    bodies: list[dict[str, Any]] = [
        {"json": {"title": text}, "params": {"on_conflict": f'"{text}"'}},
        {"json": {text: 1}},
        {"json": {"title": "x"}, "params": {"columns": f'"{text}"'}},
    ]
    for body in bodies:
        headers = {"Prefer": "resolution=merge-duplicates"}
        assert (await alice.send("POST", "/notes", headers=headers, **body)).status_code == 400, body
    assert (await alice.send("POST", "/rpc/mine", json={text: 1})).status_code == 404
    assert (await alice.send("POST", "/rpc/mine", json={"word": text})).json() == []
    made = await alice.send("POST", "/notes", json={"title": text}, headers={"Prefer": "return=representation"})
    assert made.json()[0]["title"] == text
    assert await world.sql("select 1 from pg_class where relname = 'notes'") == [(1,)]


async def test_a_column_may_have_any_name(alice: Person) -> None:
    made = await alice.data.from_("notes").insert({"title": "odd", "odd % name": "v"}).execute()
    assert made.data[0]["odd % name"] == "v"
    answer = await alice.send("GET", "/notes", params={"select": '"odd % name"', "odd % name": "eq.v"})
    assert answer.json() == [{"odd % name": "v"}]


# functions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add", {"a": 1}, 11),
        ("add", {"a": "1", "b": 2}, 3),
        ("numbers", {"top": 3}, [1, 2, 3]),
        ("pairs", {"top": 2}, [{"n": 1, "square": 1}, {"n": 2, "square": 4}]),
        ("whole", {"any": [1, {"x": None}]}, {"any": [1, {"x": None}]}),
        ("norm", {"v": [3, 4]}, 5),
        ("norm", {"v": "[3,4]"}, 5),
        ("created", {}, "made"),
    ],
)
async def test_a_function_takes_named_arguments_and_returns_its_shape(
    alice: Person, name: str, arguments: dict[str, Any], expected: object
) -> None:
    assert (await alice.data.rpc(name, arguments).execute()).data == expected


async def test_a_function_that_returns_nothing_is_a_204(alice: Person) -> None:
    answer = await alice.send("POST", "/rpc/nothing", json={"into_rank": 8})
    assert (answer.status_code, answer.content) == (204, b"")
    assert {row["rank"] for row in (await alice.send("GET", "/notes")).json()} == {8}


async def test_the_rows_of_a_function_are_filtered_ordered_and_paged(alice: Person) -> None:
    call = alice.data.rpc("mine", {}, count=CountMethod.exact).select("title").gt("rank", 1).order("title", desc=True)
    answer = await call.limit(1).execute()
    assert answer.data == [{"title": "c"}]
    pairs = await alice.send("GET", "/rpc/pairs?top=5&square=gt.4&select=n&order=n.desc&limit=2")
    assert pairs.json() == [{"n": 5}, {"n": 4}]
    row = await alice.data.rpc("first_note", {}).select("title").single().execute()
    assert row.data == {"title": "a"}
    only = await alice.send("POST", "/rpc/mine?title=eq.b&select=title", json={}, headers=OBJECT)
    assert only.json() == {"title": "b"}


async def test_a_function_is_called_by_get_in_a_read_only_transaction(alice: Person) -> None:
    answer = await alice.data.rpc("add", {"a": 1, "b": 2}, get=True).execute()
    assert answer.data == 3
    assert (await alice.send("GET", "/rpc/whoami")).json()["read_only"] == "on"


async def test_an_overloaded_function_is_refused_and_a_mistyped_one_hinted(alice: Person) -> None:
    overloaded = await alice.send("POST", "/rpc/twice", json={"a": 1})
    assert (overloaded.status_code, overloaded.json()["code"]) == (300, "PGRST203")
    assert "public.twice(a => integer), public.twice(a => text)" in overloaded.json()["message"]
    mistyped = await alice.send("POST", "/rpc/ad", json={"a": 1})
    assert mistyped.json()["hint"] == "Perhaps you meant to call the function public.add"
    wrong = await alice.send("POST", "/rpc/add", json={"c": 1})
    assert wrong.json()["message"] == "Could not find the function public.add(c) in the schema cache"
    assert wrong.json()["hint"] == "Perhaps you meant to call the function public.add(a, b)"


async def test_a_function_sees_its_caller_and_the_request(world: World, alice: Person) -> None:
    told = (await alice.data.rpc("whoami", {}).execute()).data
    assert (told["role"], told["uid"], told["timeout"]) == ("authenticated", alice.id, "8s")
    assert (told["method"], told["path"]) == ("POST", "/rest/v1/rpc/whoami")
    assert (await world.person("anon").data.rpc("whoami", {}).execute()).data["timeout"] == "3s"


async def test_a_function_chooses_the_status_and_headers(alice: Person) -> None:
    made = await alice.send("POST", "/rpc/created")
    assert (made.status_code, made.headers["x-answer"], made.json()) == (202, "42", "made")
    pot = await alice.send("POST", "/rpc/teapot")
    assert (pot.status_code, pot.headers["x-pot"]) == (418, "full")
    assert pot.json() == {"code": "X1", "message": "tea", "details": "d", "hint": "h"}


# the schema cache ----------------------------------------------------------------------------------------------------


async def test_what_is_made_later_is_found_at_the_first_request(world: World, alice: Person) -> None:
    await world.sql("create table public.later (id int); grant all on public.later to authenticated")
    assert (await alice.send("POST", "/later", json={"id": 1})).status_code == 201
    await world.sql("alter table public.later add column word text")
    assert (await alice.send("POST", "/later", json={"id": 2, "word": "w"})).status_code == 201
    await world.sql("create function public.late(x int) returns int language sql as 'select x'")
    assert (await alice.send("POST", "/rpc/late", json={"x": 4})).json() == 4


async def test_a_notification_reloads_the_schema(world: World, alice: Person) -> None:
    await world.sql("create function public.changing() returns int language sql as 'select 1'")
    assert (await alice.send("POST", "/rpc/changing")).json() == 1
    await world.sql(
        "drop function public.changing(); "
        "create function public.changing() returns setof int language sql as 'select 1'; notify pgrst, 'reload schema'"
    )
    async with asyncio.timeout(10):
        while (await alice.send("POST", "/rpc/changing")).json() != [1]:
            await asyncio.sleep(0.01)


async def test_callers_do_not_leak_into_each_other(world: World) -> None:
    """Many at once on few sessions: everybody sees their own name only."""
    people = [world.person() for _ in range(12)] + [world.person("anon")]

    async def ask(person: Person) -> None:
        for _ in range(10):
            told = (await person.send("GET", "/rpc/whoami")).json()
            assert (told["role"], told["uid"]) == (person.role, person.id)
            await person.send("GET", "/rpc/complain")

    await asyncio.gather(*(ask(person) for person in people))
