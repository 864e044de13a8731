"""The query string's grammar, without a database."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from postgrest import AsyncPostgrestClient

from pipeline.embedded.gateway.rest.catalog import Table
from pipeline.embedded.gateway.rest.errors import RestError
from pipeline.embedded.gateway.rest.query import (
    Column,
    Condition,
    Field,
    Group,
    Order,
    parse,
    parse_order,
    parse_select,
)
from pipeline.embedded.gateway.rest.render import Shape, array_literal, select

NOTES = Table("notes", {"id": "bigint", "title": "text"}, {}, ("id",))


def where(key: str, value: str) -> Condition | Group:
    return parse([(key, value)]).where[0]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", (Column(None),)),
        ("*", (Column(None),)),
        ("id,title", (Column(Field("id")), Column(Field("title")))),
        ("t:title", (Column(Field("title"), "t"),)),
        ("rank::text", (Column(Field("rank"), None, "text"),)),
        ("r:rank::double precision", (Column(Field("rank"), "r", "double precision"),)),
        ('"odd, name"', (Column(Field("odd, name")),)),
        ('"a:b":"c\\"d"', (Column(Field('c"d'), "a:b"),)),
        ("data->a->>b", (Column(Field("data", ((False, "a"), (True, "b"))), "b"),)),
        ("data->0", (Column(Field("data", ((False, 0),)), "data"),)),
        ("x:data->a->>-1", (Column(Field("data", ((False, "a"), (True, -1))), "x"),)),
    ],
)
def test_select_names_columns_aliases_casts_and_json_paths(text: str, columns: tuple[Column, ...]) -> None:
    assert parse_select(text) == columns


@pytest.mark.parametrize("text", ["notes(*)", "id,owner(name)", "x:owner!fk(name)", "...owner(name)", "owner()"])
def test_resource_embedding_is_refused_by_name(text: str) -> None:
    with pytest.raises(RestError, match="not implemented") as caught:
        parse_select(text)
    assert caught.value.code == "PGRST127"
    assert "resource embedding" in caught.value.details


@pytest.mark.parametrize("text", ["count()", "id.sum()", "total:id.sum()"])
def test_aggregates_are_refused(text: str) -> None:
    with pytest.raises(RestError) as caught:
        parse_select(text)
    assert caught.value.code == "PGRST123"


@pytest.mark.parametrize(
    "text", ["id,", ",", "id::", "id::text;drop", "id::int)--", "a:", "id title(", "->x", "a->", "id::text collate x"]
)
def test_a_malformed_select_is_refused(text: str) -> None:
    with pytest.raises(RestError) as caught:
        parse_select(text)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("value", "condition"),
    [
        ("eq.3", Condition(Field("a"), "eq", "3")),
        ("eq.", Condition(Field("a"), "eq", "")),
        ('eq."x"', Condition(Field("a"), "eq", '"x"')),
        ("not.eq.3", Condition(Field("a"), "eq", "3", negated=True)),
        ("eq.a.b(c),d", Condition(Field("a"), "eq", "a.b(c),d")),
        ("is.NULL", Condition(Field("a"), "is", "null")),
        ("not.is.true", Condition(Field("a"), "is", "true", negated=True)),
        ("in.(1,2)", Condition(Field("a"), "in", ("1", "2"))),
        ("in.()", Condition(Field("a"), "in", ())),
        ('in.("a,b","c\\"d",e{f)', Condition(Field("a"), "in", ("a,b", 'c"d', "e{f"))),
        ("cs.{a,b}", Condition(Field("a"), "cs", "{a,b}")),
        ("like(any).{a*,b*}", Condition(Field("a"), "like", ("a*", "b*"), quantifier="any")),
        ("eq(all).{1}", Condition(Field("a"), "eq", ("1",), quantifier="all")),
        ("fts(english).a&b", Condition(Field("a"), "fts", "a&b", language="english")),
        ("wfts.a b", Condition(Field("a"), "wfts", "a b")),
        ("isdistinct.3", Condition(Field("a"), "isdistinct", "3")),
        ("adj.(1,2)", Condition(Field("a"), "adj", "(1,2)")),
    ],
)
def test_a_filter_is_an_operator_and_a_value(value: str, condition: Condition) -> None:
    assert where("a", value) == condition


@pytest.mark.parametrize(
    "value", ["3", "is.maybe", "in.1,2", "eq(some).{1}", "neq(any).{1}", "like(any).a", "nope.3", ""]
)
def test_a_malformed_filter_is_refused(value: str) -> None:
    with pytest.raises(RestError) as caught:
        where("a", value)
    assert caught.value.code == "PGRST100"


def test_a_tree_of_conditions_nests_and_negates() -> None:
    assert where("or", '(a.eq.1,and(b.gt.2,c.not.in.("x,y",z)),not.or(d.is.null,e.eq."p,q)"))') == Group(
        "or",
        (
            Condition(Field("a"), "eq", "1"),
            Group("and", (Condition(Field("b"), "gt", "2"), Condition(Field("c"), "in", ("x,y", "z"), negated=True))),
            Group("or", (Condition(Field("d"), "is", "null"), Condition(Field("e"), "eq", "p,q)")), negated=True),
        ),
    )
    assert where("not.and", "(a.cs.{1,2},b->>c.eq.1)") == Group(
        "and", (Condition(Field("a"), "cs", "{1,2}"), Condition(Field("b", ((True, "c"),)), "eq", "1")), negated=True
    )


@pytest.mark.parametrize("key", ["other.title", "other.order", "other.limit", "other.or"])
def test_an_option_of_an_embedded_resource_is_refused(key: str) -> None:
    with pytest.raises(RestError) as caught:
        where(key, "eq.1")
    assert caught.value.code == "PGRST108"


def test_order_takes_direction_and_nulls() -> None:
    assert parse_order("a,b.desc,c.nullsfirst,d->>e.asc.nullslast") == (
        Order(Field("a")),
        Order(Field("b"), "desc"),
        Order(Field("c"), "", "nulls first"),
        Order(Field("d", ((True, "e"),)), "asc", "nulls last"),
    )
    for text in ("a.up", "a.desc.asc", "a.nullsfirst.desc", "a.desc;", "rel(a).desc"):
        with pytest.raises(RestError):
            parse_order(text)


def test_an_rpc_tells_arguments_from_filters() -> None:
    query = parse([("a", "1"), ("b", "eq.1"), ("c", "x.y"), ("select", "id")], rpc=True)
    assert query.arguments == (("a", "1"), ("c", "x.y"))
    assert [one.field.name for one in query.where if isinstance(one, Condition)] == ["b"]


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
async def test_any_values_of_supabase_py_arrive_whole(values: list[str]) -> None:
    """Values through its `in_`, as the parser reads them back."""
    builder = AsyncPostgrestClient("http://127.0.0.1").from_("notes").select("*").in_("a", values)
    condition = where("a", builder.request.params["a"])
    expected = ("",) if values == [""] else tuple(values)
    if values != [""]:  # `in.()` is the empty list, as in PostgREST
        assert isinstance(condition, Condition)
        assert condition.value == expected


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_text_breaks_the_parser_or_reaches_the_sql(key: str, value: str) -> None:
    """Whatever comes is refused with a status of the client's, or becomes SQL made of quoted names and parameters."""
    refusals: list[int] = []
    for pairs in (
        [(key, value)],
        [("select", value)],
        [("order", value)],
        [("or", f"({value})")],
        [(key, f"eq.{value}")],
        [("a", f"fts({key}).{value}")],
        [("select", f"{key}->>{value}")],
    ):
        try:
            statement = select(NOTES, "public", parse(pairs), 10, Shape())
        except RestError as error:
            refusals.append(error.status)
            continue
        assert _balanced(statement.text), statement.text
    assert set(refusals) <= {400}


def _balanced(text: str) -> bool:
    """Outside of quoted names there is nothing but lower-case words, digits and the punctuation of our own SQL."""
    outside = "".join(text.split('"')[::2])
    literals = outside.split("'")
    return len(literals) % 2 == 1 and all(
        part.replace("%(p", "").replace(")s", "").isascii() and ";" not in part and "--" not in part
        for part in literals[::2]
    )


def test_an_array_literal_keeps_quotes_and_backslashes() -> None:
    assert array_literal(('a"b', "c\\d", "", "null")) == '{"a\\"b","c\\\\d","","null"}'
