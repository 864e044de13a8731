"""Attacks by search: another's text, what scores tell of it, and questions that break out of the question."""

from __future__ import annotations

import hashlib

from tests.access.world import SECRET, World, attack, vector_of


@attack
def an_owner_finds_her_text(w: World) -> None:
    """No attack: by words, by meaning, and by both."""
    w.be(w.alice)
    for query in (("zanzibar",), ("", vector_of(SECRET)), ("zanzibar", vector_of(SECRET))):
        found = w.search(*query)
        assert found and found[0]["content"] == SECRET
    assert found[0]["matched_by"] == "both"
    assert len(w.search("launch harbours", match_count=1)) == 1


@attack
def a_stranger_searches_for_anothers_text(w: World) -> None:
    """A stranger knows words of another's text, its exact vector, or its folder: nothing of it is found."""
    w.be(w.mallory)
    for text in ("zanzibar", SECRET, "launch code", f'"{SECRET}"', "zanz", "4711", "launch -friday", "the"):
        w.nothing_of_alice(w.search(text))
        w.nothing_of_alice(w.search(text, vector_of(SECRET)))
        w.nothing_of_alice(w.search(text, vector_of(SECRET), match_count=1000000))
    for prefix in (f"{w.alice}/", str(w.alice), "ledger", ""):
        w.nothing_of_alice(w.search("zanzibar launch", vector_of(SECRET), path_prefix=prefix))
    assert {hit["content"] for hit in w.search("launch", vector_of(SECRET))} >= {"the launch day is friday"}


@attack
def the_parts_of_search_cross_owners(w: World) -> None:
    """Each part of the search by itself, as it would be with the parts around it broken: each keeps to one owner."""
    w.be("postgres")
    theirs = {row["id"] for row in w.sql("select id from pipeline.chunks where owner_id <> %s", w.mallory)}
    question = "(select pipeline.parse_question(%s, 'launch zanzibar harbours'))"
    # as if lexemes were not marked with their owner
    for asked, marked in ((w.mallory, w.mallory), (w.mallory, w.alice)):
        found = w.sql(f"select id from pipeline.by_words(%s, {question}, null, 10, null)", asked, marked)
        assert theirs.isdisjoint(row["id"] for row in found), "by_words"
        assert bool(found) == (asked == marked)
    space = "(select s from pipeline.spaces s where active)"
    found = w.sql(
        f"select id from pipeline.by_meaning(%s, {question}, null, 10, %s, {space})",
        w.mallory,
        w.mallory,
        vector_of(SECRET),
    )
    assert found and theirs.isdisjoint(row["id"] for row in found), "by_meaning"
    found = w.sql(
        "select id from pipeline.nearest_by_index(%s, 'd.deleted_at is null and d.published_job_id = c.job_id', "
        "10, %s, "
        f"{space})",
        w.mallory,
        vector_of(SECRET),
    )
    assert found and theirs.isdisjoint(row["id"] for row in found), "nearest_by_index"
    counted = w.sql(
        "select * from pipeline.word_frequencies(%s, array[pipeline.quoted(%s, 'zanzibar')], 10)", w.mallory, w.alice
    )
    assert [row["passages"] for row in counted] == [0], "word_frequencies"


@attack
def scores_tell_of_anothers_text(w: World) -> None:
    """A stranger watches the scores of her own text while another adds hers, to learn its words: they stay."""
    questions = ("launch", "launch zanzibar", "the newspaper", "quiet friday")
    w.be(w.mallory)
    before = [
        [(hit["content"], hit["score"]) for hit in w.search(q, v)] for q in questions for v in (None, vector_of(q))
    ]
    w.be("postgres")
    w.sql(
        "insert into pipeline.chunks (document_id, job_id, owner_id, ordinal, content, input_sha256, lexemes) "
        "select d.id, d.published_job_id, d.owner_id, 100 + n, 'launch friday newspaper', sha256(n::text::bytea), "
        "pipeline.lexemes(d.owner_id, null, 'launch friday newspaper zanzibar') "
        "from pipeline.documents d, generate_series(1, 30) n where d.owner_id = %s and d.published_job_id is not null",
        w.alice,
    )
    w.sql(
        "update pipeline.documents set chunk_count = chunk_count + 30 where owner_id = %s and published_job_id "
        "is not null",
        w.alice,
    )
    w.be(w.mallory)
    after = [
        [(hit["content"], hit["score"]) for hit in w.search(q, v)] for q in questions for v in (None, vector_of(q))
    ]
    assert before == after


@attack
def a_question_breaks_out_of_the_question(w: World) -> None:
    """A question is written so that it ends the text, the query or the statement it stands in: it is words only."""
    w.be(w.mallory)
    for text in (
        "' | 'zanzibar",
        "zanzibar:*",
        "!friday",
        "') or true --",
        "'; select 1; --",
        "\\",
        "\\'",
        "'''",
        '"',
        "\"'",
        "%",
        "%1$s",
        "$1",
        "a & | b",
        "<->",
        "launch\x01zanzibar",
        "()",
        ":a",
        "zanzibar' || pipeline.now()::text || '",
    ):
        w.nothing_of_alice(w.search(text))
        w.nothing_of_alice(w.search(text, vector_of(SECRET)))
        w.nothing_of_alice(w.search("zanzibar launch", path_prefix=text))
        w.nothing_of_alice(w.search("zanzibar launch", vector_of(SECRET), path_prefix=text))
        with w.refused("PT400"):
            w.search("launch", None, space=text)


@attack
def a_question_costs_more_than_it_may(w: World) -> None:
    """A user asks what search cannot answer, to break it or to make it work for long: told so, with HTTP 400."""
    w.be(w.mallory)
    with w.refused("PT400", match="2000"):
        w.search("a " * 1001)
    with w.refused("PT400", match="dimensions"):
        w.search("launch", "[1, 2, 3]")
    with w.refused("PT400", match="zero"):
        w.search("launch", "[" + ",".join(["0"] * 1536) + "]")
    with w.refused("PT400", match="embedding space"):
        w.search("launch", None, space="another")
    assert len(w.search("launch newspaper", match_count=10**9)) <= 100
    assert len(w.search("launch newspaper", match_count=-1)) == 1


@attack
def anothers_work_is_taken_for_ones_own(w: World) -> None:
    """A stranger uploads bytes, or a text, of which she knows that another has the same, to get what was read of it or
    to see that it is there: what is kept is found by its owner alone."""
    w.be("postgres")
    attempt = "(select attempt from pipeline.jobs where id = %s)"
    space = w.value("select id from pipeline.spaces where active")
    for job, theirs, passage in (
        (w.jobs["running.txt"], b"ledger-of-alice.txt", SECRET),
        (w.jobs["ledger-of-alice-running.txt"], b"own.txt", "the launch day is friday"),
    ):
        content = hashlib.sha256(theirs).digest()
        for _ in range(2):  # the second time a purchase of her own is under way
            found = w.one(f"select * from pipeline.begin_parse(%s, {attempt}, %s, 'test')", job, job, content)
            assert found["status"] == "buy" and found["pages"] is None
        inputs = [hashlib.sha256(passage.encode()).digest(), hashlib.sha256(b"being bought by " + theirs).digest()]
        with w.works():
            found = w.sql(f"select * from pipeline.begin_embeddings(%s, {attempt}, %s, %s)", job, job, space, inputs)
        assert {row["status"] for row in found} == {"buy"}
        with w.refused("PL002"):
            w.sql(
                f"select pipeline.publish(%s, {attempt}, %s, %s, 'text/plain', 1, '{{}}', 'test', array[1], "
                "array[null]::text[], array['x'], %s)",
                job,
                job,
                space,
                content,
                inputs[:1],
            )


@attack
def two_owners_have_the_same_text(w: World) -> None:
    """A stranger has a passage of which she thinks that another has the same, and watches whether hers is found twice,
    or with another score: the other's vector counts for the other alone."""
    w.be("postgres")
    # so few vectors are compared one by one; the index would keep what is rolled back until a vacuum
    w.sql(f"drop index pipeline.embeddings_space_{w.value('select id from pipeline.spaces where active')}")
    w.sql(
        "with filler as (insert into pipeline.chunks (document_id, job_id, owner_id, ordinal, content, "
        "input_sha256, lexemes) "
        "select d.id, d.published_job_id, d.owner_id, 100 + n, 'filler ' || n, sha256(n::text::bytea), "
        "pipeline.lexemes(d.owner_id, null, 'filler') from pipeline.documents d, generate_series(1, 40) n "
        "where d.owner_id = %s and d.published_job_id is not null returning *) "
        "insert into pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id) "
        "select owner_id, (select id from pipeline.spaces where active), input_sha256, %s::extensions.halfvec, "
        "document_id from filler",
        w.mallory,
        vector_of("near"),
    )
    w.sql(
        "update pipeline.documents set chunk_count = chunk_count + 40 where owner_id = %s and published_job_id "
        "is not null",
        w.mallory,
    )

    def asked() -> list[object]:
        answers = []
        for text in ("friday", "launch", '"launch day"', "friday -zanzibar"):
            for vector in (vector_of("near"), vector_of("the launch day is friday")):
                for prefix in (None, "own"):
                    hits = w.search(text, vector, match_count=3, path_prefix=prefix)
                    answers.append([(hit["content"], hit["score"], hit["matched_by"]) for hit in hits])
        return answers

    w.be(w.mallory)
    before = asked()
    w.be("postgres")
    w.sql(
        "insert into pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id) "
        "select %s, space_id, input_sha256, %s::extensions.halfvec, document_id from pipeline.embeddings where "
        "owner_id = %s",
        w.alice,
        vector_of("near"),
        w.mallory,
    )
    w.be(w.mallory)
    assert asked() == before
