"""What a question finds, as a signed-in user, on a real database."""

from __future__ import annotations

import hashlib
import math
import uuid
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.sql.conftest import Database, made_up_vector

KNEE = "The deductible for knee surgery is 500 dollars."
HIP = "Hip replacement needs the written consent of the insurer before the operation."
DENTAL = "Dental cleaning is covered twice a year without any deductible."


async def publish(db: Database, owner: uuid.UUID, name: str, *texts: str, heading: str | None = None) -> None:
    await db.upload(owner, name, "".join(texts).encode())
    for job in await db.claim(10):
        await db.publish(job, texts, heading=heading)


async def search(db: Database, owner: uuid.UUID | None, query: str | None, **arguments: Any) -> list[dict[str, Any]]:
    """As the Data API calls it: by name, as the user's role."""
    arguments = {"query_text": query} | arguments
    named = ", ".join(f"{name} => %s" for name in arguments)
    async with db.as_user(owner) as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(f"select * from public.search({named})".encode(), list(arguments.values()))
        return await cursor.fetchall()


async def found(db: Database, owner: uuid.UUID, query: str, **arguments: Any) -> list[str]:
    return [hit["content"] for hit in await search(db, owner, query, **arguments)]


@pytest.fixture
async def user(db: Database) -> uuid.UUID:
    return await db.sign_up()


async def test_a_natural_question_finds_its_answer(db, user):
    await publish(db, user, "handbook.md", HIP, KNEE, DENTAL, heading="Cover > Operations")
    [first, *_] = await search(db, user, "How much is the deductible for knee surgery?")
    assert first["content"] == KNEE
    assert first["name"] == f"{user}/handbook.md"
    assert (first["page"], first["heading"], first["matched_by"]) == (1, "Cover > Operations", "keyword")
    assert first["score"] > 0
    assert await found(db, user, "an operation of the hip") == [HIP, KNEE, DENTAL]  # by heading: Operations


async def test_stems_and_any_word(db, user):
    await publish(db, user, "a.md", KNEE, HIP)
    assert await found(db, user, "replacing hips zebra") == [HIP]


@pytest.mark.parametrize("query", ["INC-2041", "2041", "inc 2041", "TCP", "ip", "tags"])
async def test_numbers_paths_and_angle_brackets_are_words(db, user, query):
    await publish(db, user, "a.md", "Ticket INC-2041 concerns TCP/IP and <tags>.", DENTAL)
    assert len(await found(db, user, query)) == 1


async def test_a_phrase_is_a_filter_and_a_minus_excludes(db, user):
    apart = "Surgery of the knee, and its deductible."
    await publish(db, user, "a.md", KNEE, apart, DENTAL)
    assert set(await found(db, user, "knee surgery")) == {KNEE, apart}
    assert await found(db, user, '"knee surgery"') == [KNEE]
    assert await found(db, user, 'deductible "for knee surgery" zebra') == [KNEE]
    assert set(await found(db, user, "deductible -dental")) == {KNEE, apart}
    assert set(await found(db, user, 'deductible -"knee surgery"')) == {apart, DENTAL}
    assert await found(db, user, '"knee cleaning"') == []
    assert await found(db, user, "-knee") == []
    assert set(await found(db, user, 'deductible "unbalanced')) == {KNEE, apart, DENTAL}


async def test_scripts_without_spaces(db, user):
    japanese = [
        "有給休暇は入社六か月後に十日付与されます。",
        "経費の精算は月末までに申請してください。",
        "税は別です。",
    ]
    chinese = ["员工每年可以享受十天带薪年假。", "报销单必须附上发票原件。"]
    thai = ["พนักงานมีสิทธิลาพักร้อนปีละสิบวัน", "ใบเสร็จต้องแนบกับใบเบิก"]
    await publish(db, user, "a.md", *japanese, *chinese, *thai, KNEE)
    assert (await found(db, user, "有給休暇は何日もらえますか"))[0] == japanese[0]
    assert (await found(db, user, "経費はいつまでに申請？"))[0] == japanese[1]
    assert (await found(db, user, "带薪年假有几天"))[0] == chinese[0]
    assert (await found(db, user, "发票"))[0] == chinese[1]
    assert (await found(db, user, "ลาพักร้อนได้กี่วัน"))[0] == thai[0]
    assert await found(db, user, "税") == [japanese[2]]
    assert await found(db, user, "別") == [japanese[2]]
    assert await found(db, user, '"月末まで"') == [japanese[1]]
    assert await found(db, user, '"末月まで"') == []
    assert japanese[1] not in await found(db, user, "有給 は -申請")


async def test_mixed_scripts_and_widths(db, user):
    await publish(db, user, "a.md", "新しいＶＰＮクライアントの設定手順", "プリンターの設定")
    assert (await found(db, user, "VPN"))[0].startswith("新しい")
    assert (await found(db, user, '"VPNクライアント"')) == ["新しいＶＰＮクライアントの設定手順"]


@pytest.mark.parametrize(
    "query",
    [
        None, "", "   ", "the of and", '""', '"', "-", "--", '-""', "'",
        "''; drop table pipeline.chunks; --", "\\", "%s %I %L $1",
        "a' | b:* & !c <-> (", ":*", "🙂", "\x01", "x" * 1999, "'knee':*A \\' %",
    ],
)  # fmt: skip
async def test_odd_questions_are_answered(db, user, query):
    await publish(db, user, "a.md", KNEE, "100% of the 'quoted' \\ back\\slash and it's %s $1 fine")
    await search(db, user, query)
    await search(db, user, query, query_embedding=made_up_vector(b"x", 1536))
    assert KNEE in await found(db, user, "knee")


async def test_what_no_word_is_in_is_empty_and_too_long_is_refused(db, user):
    await publish(db, user, "a.md", KNEE)
    assert await search(db, user, "the of and") == []
    assert await search(db, user, None) == []
    with pytest.raises(psycopg.Error, match="2001 characters") as caught:
        await search(db, user, "x" * 2001)
    assert caught.value.sqlstate == "PT400"


async def test_hybrid_gives_a_candidate_its_true_score_of_the_other_side(db, user):
    texts = [KNEE, HIP, DENTAL, "Nothing in common with any of the words asked for."]
    await publish(db, user, "a.md", *texts)
    query = [float(x) for x in made_up_vector(hashlib.sha256(HIP.encode()).digest(), 1536)[1:-1].split(",")]
    hits = await search(db, user, "knee deductible", query_embedding=str(query), space="text-embedding-3-small-1536")
    bm25 = {hit["content"]: hit["score"] for hit in await search(db, user, "knee deductible")}
    assert len(hits) == 4
    for hit in hits:
        vector = [
            float(x) for x in made_up_vector(hashlib.sha256(hit["content"].encode()).digest(), 1536)[1:-1].split(",")
        ]
        cosine = sum(a * b for a, b in zip(query, vector, strict=True))
        expected = 0.8 * cosine + 0.2 * bm25.get(hit["content"], 0) / max(bm25.values())
        assert math.isclose(hit["score"], expected, abs_tol=2e-3)
        assert hit["matched_by"] == ("both" if hit["content"] in bm25 else "vector")
    assert hits[0]["content"] == HIP
    filtered = await search(db, user, '"knee surgery" -hip', query_embedding=str(query))
    assert [hit["content"] for hit in filtered] == [KNEE]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"query_embedding": "[1,2,3]"}, "3 dimensions; the embedding space text-embedding-3-small-1536 has 1536"),
        (
            {"query_embedding": made_up_vector(b"x", 384), "space": "all-MiniLM-L6-v2-int8-384"},
            "text-embedding-3-small-1536",
        ),
        ({"space": "no-such-space"}, "text-embedding-3-small-1536, not no-such-space"),
        ({"query_embedding": str([0] * 1536)}, "zero"),
    ],
)
async def test_a_vector_that_does_not_fit_is_a_400(db, user, arguments, sentence):
    await publish(db, user, "a.md", KNEE)
    with pytest.raises(psycopg.Error, match=sentence) as caught:
        await search(db, user, "knee", **arguments)
    assert caught.value.sqlstate == "PT400"


async def test_characters_that_nobody_sees_are_no_part_of_a_question(db, user):
    await publish(db, user, "a.md", KNEE)
    assert await search(db, user, "de\u00adduc\u200btible\u202e")
    assert await search(db, user, "kn\U000e0041ee\ufeff")


async def test_nobody_is_refused(db, user):
    await publish(db, user, "a.md", KNEE)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="signed-in"):
        await search(db, None, "knee")
    async with db.as_user(None, role="anon") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select * from public.search('knee')")
    async with db.as_user(user) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="schema pipeline"):
            await connection.execute("select * from pipeline.search('knee', null, null, 1, null)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select pipeline.by_words(null, null, null, 1, null)")


async def test_another_owner_is_invisible_and_changes_no_score(db, user):
    await publish(db, user, "a.md", KNEE, HIP, DENTAL)
    vector = made_up_vector(hashlib.sha256(HIP.encode()).digest(), 1536)
    before = [await search(db, user, "knee deductible"), await search(db, user, "knee", query_embedding=vector)]
    other = await db.sign_up()
    await publish(db, other, "b.md", KNEE, HIP, *(f"The knee number {n} has a deductible." for n in range(40)))
    assert [await search(db, user, "knee deductible"), await search(db, user, "knee", query_embedding=vector)] == before
    assert {hit["name"] for hit in await search(db, other, "knee", match_count=100)} == {f"{other}/b.md"}
    assert await search(db, await db.sign_up(), "knee", query_embedding=vector) == []


async def test_a_shared_owner_token_shares_nothing_else(db, user):
    twin = uuid.UUID(int=(user.int & (1 << 24) - 1) | (uuid.uuid4().int >> 24 << 24))
    await db.run("insert into auth.users (id, aud, role, email) values (%s, 'authenticated', 'authenticated', %s)",
                 twin, f"{twin}@example.org")  # fmt: skip
    await publish(db, user, "a.md", KNEE)
    before = await search(db, user, "knee deductible")
    await publish(db, twin, "b.md", KNEE, DENTAL)
    assert await search(db, user, "knee deductible") == before
    assert len(await search(db, twin, "deductible")) == 2


async def test_a_deleted_document_is_gone_at_once(db, user):
    await publish(db, user, "a.md", KNEE)
    await publish(db, user, "b.md", DENTAL)
    vector = made_up_vector(b"x", 1536)
    await db.delete(user, "a.md")
    assert await found(db, user, "deductible") == [DENTAL]
    assert await found(db, user, "deductible", query_embedding=vector) == [DENTAL]


async def test_the_old_text_is_found_until_the_new_one_is_published(db, user):
    await publish(db, user, "a.md", KNEE)
    await db.upload(user, "a.md", b"new")
    [job] = await db.claim()
    assert await found(db, user, "knee dental") == [KNEE]
    await db.publish(job, [DENTAL])
    assert await found(db, user, "knee dental") == [DENTAL]
    assert await found(db, user, "knee dental", query_embedding=made_up_vector(b"x", 1536)) == [DENTAL]


async def test_path_prefix_and_match_count(db, user):
    for name in ("hr/a.md", "hr/b.md", "it/a.md"):
        await publish(db, user, name, KNEE)
    vector = made_up_vector(b"x", 1536)
    for more in ({}, {"query_embedding": vector}):
        for prefix in ("hr/", f"{user}/hr/", "/hr/"):
            hits = await search(db, user, "knee", path_prefix=prefix, **more)
            assert {hit["name"] for hit in hits} == {f"{user}/hr/a.md", f"{user}/hr/b.md"}
        assert await search(db, user, "knee", path_prefix="h_/", **more) == []
        assert len(await search(db, user, "knee", match_count=2, **more)) == 2
        assert len(await search(db, user, "knee", match_count=-5, **more)) == 1
        assert len(await search(db, user, "knee", match_count=10**9, **more)) == 3
        assert len(await search(db, user, "knee", match_count=None, **more)) == 3


async def test_the_index_of_all_vectors_gives_the_same_as_the_owners_own(db, user):
    """What only an owner of many thousands of passages meets, called as search calls it."""
    other = await db.sign_up()
    await publish(db, user, "a.md", KNEE, HIP, DENTAL)
    await publish(db, user, "gone.md", "A file that is deleted.")
    await publish(db, other, "b.md", *(f"Passage {n} of somebody else." for n in range(50)))
    await db.delete(user, "gone.md")
    space = (await db.space())["name"]
    vector = made_up_vector(hashlib.sha256(HIP.encode()).digest(), 1536)
    for query, texts in (("knee", {KNEE, HIP, DENTAL}), ("knee -dental", {KNEE, HIP})):
        exact = await db.all(
            "select m.* from pipeline.spaces s, "
            "pipeline.by_meaning(%s, pipeline.parse_question(%s, %s), null, 10, %s, s) m"
            " where s.name = %s",
            user, user, query, vector, space,
        )  # fmt: skip
        indexed = await db.all(
            "select n.*, c.content from pipeline.spaces s, pipeline.nearest_by_index(%s, pipeline.visible(%s, "
            "pipeline.parse_question(%s, %s), null), 10, %s, s) n join pipeline.chunks c using (id) where s.name = %s",
            user, user, user, query, vector, space,
        )  # fmt: skip
        assert {row["content"] for row in indexed} == texts
        cosines = {row["id"]: row["cosine"] for row in exact}
        assert cosines.keys() == {row["id"] for row in indexed}
        for row in indexed:
            assert math.isclose(row["cosine"], cosines[row["id"]], abs_tol=1e-3)


async def test_where_the_model_knows_latin_letters_only_words_answer_the_others(db, user):
    japanese, other = "経費の精算は月末までに申請してください。", "有給休暇は十日付与されます。"
    await publish(db, user, "a.md", japanese, other, KNEE, DENTAL)
    near_other = made_up_vector(hashlib.sha256(other.encode()).digest(), 1536)
    assert (await found(db, user, "経費 精算", query_embedding=near_other))[0] == other
    await db.run("update pipeline.spaces set latin_only = true where active")
    assert (await found(db, user, "経費 精算", query_embedding=near_other))[0] == japanese
    near_knee = made_up_vector(hashlib.sha256(KNEE.encode()).digest(), 1536)
    assert (await found(db, user, "dental cleaning", query_embedding=near_knee))[0] == KNEE


async def test_one_word_in_common_does_not_outdo_the_meaning(db, user):
    """The best BM25 counts in full only where it covers the question."""
    await publish(db, user, "a.md", KNEE, HIP, DENTAL)
    vector = made_up_vector(hashlib.sha256(HIP.encode()).digest(), 1536)
    [bm25] = [hit["score"] for hit in await search(db, user, "knee zebra unicorn")]
    hits = {
        hit["content"]: hit["score"] for hit in await search(db, user, "knee zebra unicorn", query_embedding=vector)
    }
    a, b = (
        [float(x) for x in made_up_vector(hashlib.sha256(text.encode()).digest(), 1536)[1:-1].split(",")]
        for text in (KNEE, HIP)
    )
    whole = math.log(1 + 2.5 / 1.5) + 2 * math.log(1 + 3.5 / 0.5)  # of knee, and of two words that occur nowhere
    cosine = sum(x * y for x, y in zip(a, b, strict=True))
    assert math.isclose(hits[KNEE], 0.8 * cosine + 0.2 * bm25 / whole, abs_tol=2e-3)
    assert max(hits, key=hits.__getitem__) == HIP
