"""For each key, check, reference and column that may not be null: a statement that this very rule must refuse.

Made from the catalog; only what breaks a check is written down, in BREAKS. A statement is refused by the rule if the
database names it. So the other rules of the same kind on the table are out of the way while it runs, and so are our
triggers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from tests.access.world import World

_BLANK = r"'\x00'"
BREAKS: dict[str, str] = {
    "budgets.all_have_no_owner": "scope = 'all', owner_id = gen_random_uuid()",
    "budgets.amount_is_no_debt": "amount = -1",
    "budgets.period_is_known": "period = 'never'",
    "budgets.scope_is_known": "scope = 'nobody'",
    "chunks.content_is_not_blank": "content = ' '",
    "chunks.ordinal_counts_from_zero": "ordinal = -1",
    "chunks.page_counts_from_one": "page = 0",
    "documents.content_sha256_is_32_bytes": f"content_sha256 = {_BLANK}",
    "documents.published_whole_or_not_at_all": "published_version = case when published_at is null then 'v' end",
    "documents.purged_only_after_deletion": "purged_at = now(), deleted_at = null",
    "embeddings.input_sha256_is_32_bytes": f"input_sha256 = {_BLANK}",
    "erasures.completed_only_when_empty": "completed_at = now(), emptied_at = null",
    "erasures.owner_is_forgotten_iff_completed": "owner_id = null, completed_at = null",
    "healing.healing_hand_is_known": "hand = 'third'",
    "job_work.stage_costs_money": "stage = 'fetch'",
    "jobs.attempt_grows_from_zero": "attempt = -1",
    "jobs.claimed_iff_running": "state = 'running', claimed_by = null",
    "jobs.completed_has_no_error": "state = 'completed', error = 'why'",
    "jobs.dead_has_a_reason": "state = 'dead', error = null",
    "jobs.error_class_is_known": "error_class = 'bored'",
    "jobs.failures_are_counted": "failures = -1",
    "jobs.finished_iff_final": "state = 'dead', finished_at = null",
    "jobs.leased_iff_running": "state = 'running', lease_expires_at = null",
    "jobs.progress_is_a_fraction": "progress = 2",
    "jobs.stage_is_known": "stage = 'nowhere'",
    "ledger.amount_is_no_debt": "amount = -1",
    "ledger.inputs_are_counted": "inputs = -1",
    "ledger.pages_are_counted": "pages = -1",
    "ledger.settled_iff_not_reserved": "state = 'reserved', settled_at = now()",
    "ledger.state_is_known": "state = 'forgotten'",
    "ledger.tokens_are_counted": "tokens = -1",
    "limits.a_file_has_bytes": "max_file_bytes = 0",
    "limits.a_turn_has_a_job": "priority = 0",
    "limits.at_least_one_job_at_once": "max_concurrent_jobs = 0",
    "limits.documents_are_counted": "max_documents = -1",
    "limits.stored_bytes_are_counted": "max_stored_bytes = -1",
    "limits.uploads_are_counted": "uploads_per_day = -1",
    "owner_stops.stopped_is_counted": "stopped = -1",
    "owners.a_full_turn_is_over": "taken = priority",
    "owners.lanes_add_up": "lanes = 4",
    "owners.started_is_counted": "started = -1",
    "parses.bought_iff_there_are_pages": "bought_at = now(), pages = null",
    "parses.content_sha256_is_32_bytes": f"content_sha256 = {_BLANK}",
    "prices.price_is_no_gift": "price = -1",
    "prices.unit_is_known": "unit = 'song'",
    "provider_keys.outages_are_counted": "outages = -1",
    "provider_keys.ready_has_no_reason": "state = 'ready', reason = 'why'",
    "provider_keys.shut_has_a_date": "state = 'down', reason = null",
    "provider_keys.stage_needs_a_key": "stage = 'nowhere'",
    "provider_keys.state_is_known": "state = 'tired'",
    "provider_limits.something_is_in_flight": "max_in_flight = 0",
    "pseudonym_key.key_has_32_bytes": f"key = {_BLANK}",
    "pseudonym_key.there_is_one_row": "only_row = false",
    "queue.lane_is_known": "lane = 3",
    "retention.hand_is_known": "hand = 'third'",
    "settings.a_job_has_at_least_one_try": "max_failures = 0",
    "settings.paused_since_iff_paused": "paused = true, paused_at = null",
    "settings.there_is_one_row": "only_row = false",
    "spaces.dimensions_fit_an_index": "dimensions = 0",
}
"""What makes a check false, by table and name."""

FILL = """
insert into pipeline.budgets (scope, period, amount) values ('all', 'month', 1000);
insert into pipeline.provider_limits (provider, max_in_flight) values ('a provider', 1);
insert into pipeline.spent_days (day, amount) values (current_date, 1);
"""
"""Rows for the tables that are empty in the world of the attacks."""

_RULES = """
select c.contype::text as kind, c.conrelid::regclass::text as table, c.conname as name,
       array(select a.attname::text from unnest(c.conkey) k
               join pg_attribute a on a.attrelid = c.conrelid and a.attnum = k) as columns, 'true' as among
  from pg_constraint c
 where c.connamespace = 'pipeline'::regnamespace and c.contype in ('c', 'f', 'p', 'u')
union all
select 'u', i.indrelid::regclass::text, n.relname,
       array(select a.attname::text from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any (i.indkey)),
       coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
  from pg_index i join pg_class n on n.oid = i.indexrelid
 where n.relnamespace = 'pipeline'::regnamespace and i.indisunique
   and not exists (select from pg_constraint where conindid = i.indexrelid)
union all
-- a key's and an identity's columns are never null by what they are, and nobody writes what is generated
select case when a.attidentity = 'a' then 'identity' when a.attgenerated = 's' then 'generated' else 'n' end,
       a.attrelid::regclass::text, a.attname, array[a.attname::text], 'true'
  from pg_attribute a join pg_class t on t.oid = a.attrelid
 where t.relnamespace = 'pipeline'::regnamespace and t.relkind = 'r' and a.attnum > 0 and not a.attisdropped
   and (a.attidentity = 'a' or a.attgenerated = 's'
        or a.attnotnull and not exists (select from pg_constraint k
                                         where k.conrelid = t.oid and k.contype = 'p' and a.attnum = any (k.conkey)))
 order by 2, 1, 3
"""
_NOWHERE = {"uuid": "gen_random_uuid()", "text": "'nowhere'"}


@dataclass(frozen=True, slots=True)
class Rule:
    """`kind` as in pg_constraint (check, foreign, primary, unique, null), or identity or generated; `among` which rows
    a unique index holds."""

    kind: str
    table: str
    name: str
    columns: tuple[str, ...]
    among: str

    def __str__(self) -> str:
        said = {"n": "not null", "identity": "identity", "generated": "generated"}.get(self.kind, "")
        return f"{said} {self.name} on {self.table}".strip()

    def dropped(self, w: World) -> str:
        """The statement that takes the rule away."""
        match self.kind:
            case "n":
                change = f"alter {self.name} drop not null"
            case "identity":
                change = f"alter {self.name} set generated by default"
            case "generated":
                change = f"alter {self.name} drop expression"
            case _ if _is_constraint(w, self):
                change = f'drop constraint "{self.name}" cascade'
            case _:
                return f"drop index pipeline.{self.name}"
        return f"alter table {self.table} {change}"


def rules(w: World) -> list[Rule]:
    """Every one that the catalog has."""
    return [Rule(row["kind"], row["table"], row["name"], tuple(row["columns"]), row["among"]) for row in w.sql(_RULES)]


def refuses(w: World, rule: Rule) -> None:
    """Raises AssertionError unless the database refuses what breaks the rule, and names the rule for it."""
    state, named = _answer(w, rule)
    assert (state, named) == _expected(rule), f"{rule}: refused with {state} by {named}"


def lets_through(w: World, rule: Rule) -> bool:
    """Whether what breaks the rule is written."""
    return _answer(w, rule) == (None, None)


def _answer(w: World, rule: Rule) -> tuple[str | None, str | None]:
    with w.aside():
        w.sql(FILL)
        w.sql(f"alter table {rule.table} disable trigger user")
        for other in _in_the_way(w, rule):
            w.sql(other.dropped(w))
        return _refusal(w, _broken(w, rule))


def _expected(rule: Rule) -> tuple[str, str | None]:
    match rule.kind:
        case "n":
            return "23502", rule.name
        case "identity" | "generated":
            return "428C9", None
        case "c":
            return "23514", rule.name
        case "f":
            return "23503", rule.name
        case _:
            return "23505", rule.name


def _refusal(w: World, statement: str) -> tuple[str | None, str | None]:
    """The SQLSTATE, and the constraint or column that the database names."""
    try:
        with w.aside():
            assert w.count(statement), f"there is no row to try it on: {statement}"
    except psycopg.Error as error:
        return error.sqlstate, error.diag.constraint_name or error.diag.column_name
    return None, None


def _broken(w: World, rule: Rule) -> str:
    """What must be refused."""
    column = rule.columns[0] if rule.columns else ""
    match rule.kind:
        case "c":
            change = BREAKS.get(f"{rule.table.removeprefix('pipeline.')}.{rule.name}")
            assert change, f"nobody wrote down what breaks {rule}: add it to BREAKS"
        case "n":
            change = f"{column} = null"
        case "f":
            kind = w.value(
                "select format_type(atttypid, null) from pg_attribute where attrelid = %s::regclass and attname = %s",
                rule.table,
                column,
            )
            change = f"{column} = {_NOWHERE.get(kind, '-1')}"
        case "generated":
            change = f"{column} = {column}"
        case _:
            return _doubled(w, rule)
    return f"update {rule.table} set {change} where ctid = (select ctid from {rule.table} limit 1)"


def _doubled(w: World, rule: Rule) -> str:
    """A row, once more."""
    columns = ", ".join(
        row["name"]
        for row in w.sql(
            "select attname as name from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
            rule.table,
        )
    )
    overriding = "" if rule.kind == "identity" else "overriding system value"
    return (
        f"insert into {rule.table} ({columns}) {overriding} select {columns} from {rule.table} where {rule.among} "
        f"order by num_nulls({', '.join(rule.columns)}) limit 1"
    )


def _in_the_way(w: World, rule: Rule) -> Iterator[Rule]:
    """The other checks of a check's table, the other keys of a key's, all keys of an identity's."""
    alike = {"c": {"c"}, "p": {"p", "u"}, "u": {"p", "u"}, "identity": {"p", "u"}}.get(rule.kind, set())
    for other in rules(w):
        if other.table == rule.table and other.kind in alike and other != rule:
            yield other


def _is_constraint(w: World, rule: Rule) -> bool:
    return w.value(
        "select exists (select from pg_constraint where conrelid = %s::regclass and conname = %s)",
        rule.table,
        rule.name,
    )
