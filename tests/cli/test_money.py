"""Budgets, costs, prices, estimates and the bounds of providers, as an operator has them on the command line."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

import psycopg

from tests.cli.conftest import write


def test_budgets_are_set_shown_and_removed(signed_in):
    email = signed_in.user["email"]
    try:
        rows = signed_in.json("budgets", "set", "2.50", "--owner", email)["budgets"]
        mine = {"scope": "owner", "owner_id": signed_in.user["user_id"], "email": email, "period": "month"}
        assert mine | {"amount": "2.50", "spent": "0"} in rows
        signed_in.run("budgets", "set", "1000", "--period", "day")
        signed_in.run("budgets", "set", "none", "--owner", "each", "--period", "day")
        shown = signed_in.run("budgets", "list").stdout
        assert "all together" in shown and "each user" in shown and email in shown and "no limit" in shown
        assert "number of US dollars" in signed_in.run("budgets", "set", "much", expect=1).stderr
    finally:
        changes = [
            signed_in.json("budgets", "remove", "--owner", email),
            signed_in.json("budgets", "remove", "--period", "day"),
            signed_in.json("budgets", "remove", "--owner", "each", "--period", "day"),
        ]
    assert changes == [{"changed": True}] * 3
    assert signed_in.json("budgets", "remove") == {"changed": False}


def test_costs_are_added_up(signed_in, dev):
    me = signed_in.user["user_id"]
    with psycopg.connect(dev.line["db_url"], autocommit=True) as connection:
        connection.execute(
            "insert into pipeline.ledger (state, sends_at, settled_at, owner_id, job_id, attempt, provider, "
            "fingerprint, stage, model, pages, amount) values ('unconfirmed', now(), now(), %s, 0, 1, 'llamaparse', "
            "'abc', 'parse', 'cost_effective', 2, 0.0075)",
            (me,),
        )
    for by, name in (
        ("owner", signed_in.user["email"]),
        ("provider", "llamaparse cost_effective"),
        ("document", "gone"),
    ):
        [row] = signed_in.json("costs", "--by", by, "--owner", me)["costs"]
        assert (row["name"], row["pages"], row["amount"], row["unconfirmed"]) == (name, 2, "0.0075", "0.0075")
    assert "0.007500" in signed_in.run("costs", "--owner", me).stdout
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert signed_in.json("costs", "--since", today, "--owner", me)["amount"] == "0.0075"
    assert signed_in.json("costs", "--since", "2099-01-01", "--owner", me) | {"by": "day"} == {
        "by": "day",
        "since": "2099-01-01",
        "costs": [],
        "amount": "0",
    }
    with psycopg.connect(dev.line["db_url"], autocommit=True) as connection:
        connection.execute(
            "insert into pipeline.ledger (state, sends_at, settled_at, owner_id, job_id, attempt, provider, "
            "fingerprint, stage, model, tokens) values ('confirmed', now(), now(), %s, 0, 1, 'openai', 'abc', 'embed', "
            "'bge-m3', 9)",
            (me,),
        )
    shown = signed_in.run("costs", "--owner", me, "--by", "provider").stdout
    assert re.search(r"openai bge-m3 .* unpriced", shown) and "pipeline prices set" in shown
    assert "0.007500 and unpriced" in signed_in.run("costs", "--owner", me).stdout


def test_prices_are_set_and_shown(signed_in):
    listed = signed_in.json("prices", "set", "openai", "bge-m3", "token", "0.00000001", "--from", "2026-02-01")[
        "prices"
    ]
    row = {"provider": "openai", "model": "bge-m3", "unit": "token", "valid_from": "2026-02-01", "holds": True}
    assert [r | {"price": None} for r in listed if r["model"] == "bge-m3"] == [row | {"price": None}]
    said = signed_in.run("prices", "set", "openai", "bge-m3", "token", "0").stdout
    assert "A token of openai bge-m3 costs 0 US dollars." in said
    old, new = sorted(
        (r for r in signed_in.json("prices", "list")["prices"] if r["model"] == "bge-m3"), key=lambda r: r["valid_from"]
    )
    assert (old["holds"], new["holds"], new["price"]) == (False, True, "0")
    shown = signed_in.run("prices", "list").stdout
    assert "0.00000001" in shown and "cost_effective" in shown
    assert "number of US dollars" in signed_in.run("prices", "set", "openai", "x", "page", "nothing", expect=1).stderr


def test_calls_at_once_are_bounded_by_provider(signed_in, dev):
    with psycopg.connect(dev.line["db_url"], autocommit=True) as connection:
        assert "openai" not in signed_in.run("providers", "list").stdout
        connection.execute(
            "insert into pipeline.provider_keys (provider, fingerprint, stage) values ('openai', 'abc', 'embed')"
        )
        try:
            assert signed_in.json("providers", "set", "openai", "--max-in-flight", "8")["max_in_flight"] == 8
            [row] = [r for r in signed_in.json("providers", "list")["providers"] if r["provider"] != "storage"]
            assert (row["fingerprint"], row["state"], row["max_in_flight"]) == ("abc", "ready", 8)
            assert "abc" in signed_in.run("providers", "list").stdout
            assert "not bounded" in signed_in.run("providers", "set", "openai", "--max-in-flight", "none").stdout
            [row] = [r for r in signed_in.json("providers", "list")["providers"] if r["provider"] != "storage"]
            assert row["max_in_flight"] is None
        finally:
            connection.execute("delete from pipeline.provider_keys where provider = 'openai'")
    assert "openai" in signed_in.run("providers", "set", "gpt", "--max-in-flight", "8", expect=1).stderr
    assert "from 1 on" in signed_in.run("providers", "set", "openai", "--max-in-flight", "0", expect=1).stderr


def test_an_estimate_reads_files_and_names_a_price(signed_in):
    plan = write(signed_in, plan_md="# Plan\n\nThe deductible is 500 dollars.", picture_png="\x89PNG")
    free = signed_in.json("estimate", plan)
    assert [file["amount"] for file in free["files"]] == ["0"] * len(free["files"])
    signed_in.environment |= {"UPLOAD_PIPELINE_EMBEDDER": "openai", "UPLOAD_PIPELINE_PARSER": "llamaparse"}
    paid = signed_in.json("estimate", plan)
    [file] = [f for f in paid["files"] if f["path"].endswith("plan.md")]
    assert (file["pages"], file["passages"]) == (1, 1)
    assert Decimal(file["amount"]) == Decimal("0.00375") + file["tokens"] * Decimal("0.00000002")
    assert "US dollars" in signed_in.run("estimate", plan).stdout
