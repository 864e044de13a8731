"""Weakened copies of the schema, made from the catalog: whatever is added to the migrations is weakened here by itself.

A mutation is one statement. Each takes away one rule: a policy or a part of its condition, the switch of row-level
security, a revoke, the owner's check in a function, a refusal that a function raises, a definer's fixed path, a view's
flag, a constraint, a trigger, an attribute of a role or of the bucket, what is not published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.access import integrity
from tests.access.world import ATTACKS, LIFE, LockedOut, World

CLIENTS = ("anon", "authenticated")
OURS = "('pipeline'::regnamespace, 'public'::regnamespace)"


@dataclass(frozen=True, slots=True)
class Mutation:
    """`kind` is what it takes away, `name` says where; `rule` is the key or check that it drops."""

    kind: str
    name: str
    statement: str
    rule: integrity.Rule | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}"


GOT_SOMEWHERE = "an attack got somewhere"
LOCKED_OUT = "what must work did not"
BROKEN = "a row became possible that a key or check forbids"


def caught_by(w: World, mutation: Mutation) -> str | None:
    """How the weakened schema was told from the real one, which is one of the three above; None when it was not. Ends
    in a rollback.

    An attack tells by getting somewhere. Whatever else happens to it, such as a refusal by another rule, tells nothing;
    only of what must work (LIFE, and what an attack does in `World.works`) any failure does.
    """
    try:
        w.sql(mutation.statement)
        if mutation.rule is not None and integrity.lets_through(w, mutation.rule):
            return BROKEN
        for name in _by_promise(mutation):
            try:
                with w.aside():
                    ATTACKS[name](w)
            except Exception as error:
                if name in LIFE or isinstance(error, LockedOut):
                    return LOCKED_OUT
                if isinstance(error, AssertionError):
                    return GOT_SOMEWHERE
        return None
    finally:
        w.connection.rollback()


def _by_promise(mutation: Mutation) -> Iterator[str]:
    """All attacks; for a right the one first that tries them all, to save time."""
    if mutation.kind == "right granted":
        yield f"{mutation.name.rsplit(' ', 1)[1]}_tries_every_right_there_is"
    yield from ATTACKS


def all_mutations(w: World) -> list[Mutation]:
    """Every weakened copy that can be made of what the catalog holds, in a fixed order."""
    with w.aside():
        w.sql("select set_config('search_path', '', true)")
        found = [
            *_policies(w),
            *_switches(w),
            *_rights(w),
            *_functions(w),
            *_views(w),
            *_constraints(w),
            *_triggers(w),
            *_roles(),
        ]
    assert len({(m.kind, m.name) for m in found}) == len(found)
    return found


def _policies(w: World) -> Iterator[Mutation]:
    for policy in w.sql(
        "select polname as name, polrelid::regclass::text as table, polcmd::text as command, "
        "pg_get_expr(polqual, polrelid) as using, "
        "pg_get_expr(polwithcheck, polrelid) as check from pg_policy "
        "where polrelid in (select oid from pg_class where relnamespace = 'pipeline'::regnamespace) or polname "
        "like 'pipeline:%%' "
        "order by 2, 1"
    ):
        where = f'"{policy["name"]}" on {policy["table"]}'
        yield Mutation("policy dropped", where, f"drop policy {where}")
        for clause in ("using", "check"):
            condition = policy[clause]
            if condition is None or condition == "true":
                continue
            words = "with check" if clause == "check" else "using"
            yield Mutation("policy made true", f"{where}, {words}", f"alter policy {where} {words} (true)")
            for conjunction in ("AND", "OR"):
                parts = _parts(condition, conjunction)
                for n, part in enumerate(parts if len(parts) > 1 else []):
                    # a conjunct is taken out, a disjunct made true by the mutation above; here it is taken out too
                    rest = f" {conjunction} ".join(other for m, other in enumerate(parts) if m != n)
                    yield Mutation(
                        "policy without a part", f"{where}, {words}: {part}", f"alter policy {where} {words} ({rest})"
                    )


def _parts(condition: str, conjunction: str) -> list[str]:
    """What a condition joins by AND or OR at its top."""
    inner = condition[1:-1] if condition.startswith("(") and condition.endswith(")") else condition
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"[()]| {conjunction} ", inner):
        if match[0] == "(":
            depth += 1
        elif match[0] == ")":
            depth -= 1
        elif depth == 0:
            parts.append(inner[start : match.start()])
            start = match.end()
    return [*parts, inner[start:]]


def _switches(w: World) -> Iterator[Mutation]:
    for row in w.sql(
        "select oid::regclass::text as name from pg_class where relnamespace = 'pipeline'::regnamespace and "
        "relrowsecurity order by 1"
    ):
        yield Mutation("row-level security off", row["name"], f"alter table {row['name']} disable row level security")


def _rights(w: World) -> Iterator[Mutation]:
    """The dangerous ones that were revoked or never given."""
    for role in (*CLIENTS, "pipeline_worker"):
        for row in w.sql(
            f"select p.oid::regprocedure::text as name from pg_proc p where p.pronamespace in {OURS} and "
            f"p.prokind = 'f' "
            "and not has_function_privilege(%s, p.oid, 'execute') order by 1",
            role,
        ):
            yield Mutation(
                "right granted",
                f"execute {row['name']} to {role}",
                f"grant execute on function {row['name']} to {role}",
            )
        for row in w.sql(
            "select c.oid::regclass::text as name, c.relkind::text as kind, p.privilege from pg_class c "
            "cross join unnest(array['select', 'insert', 'update', 'delete', 'truncate']) as p (privilege) "
            f"where c.relnamespace in {OURS} and (c.relkind = 'r' or c.relkind = 'v' and (p.privilege = 'select' or "
            "pg_relation_is_updatable(c.oid, false) > 0 and p.privilege <> 'truncate')) "
            "and not has_table_privilege(%s, c.oid, p.privilege) order by 1, 3",
            role,
        ):
            yield Mutation(
                "right granted",
                f"{row['privilege']} on {row['name']} to {role}",
                f"grant {row['privilege']} on {row['name']} to {role}",
            )
        for schema, privilege in (("pipeline", "usage"), ("pipeline", "create"), ("public", "create")):
            if w.value("select has_schema_privilege(%s, %s, %s)", role, schema, privilege):
                continue
            yield Mutation(
                "right granted",
                f"{privilege} on schema {schema} to {role}",
                f"grant {privilege} on schema {schema} to {role}",
            )
    for role in ("authenticated",):
        for row in w.sql(
            "select c.oid::regclass::text as table, a.attname as column from pg_class c "
            "join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not attisdropped "
            "where c.relnamespace = 'pipeline'::regnamespace and c.relname in ('documents', 'jobs', 'chunks') "
            "and c.relkind = 'r' "
            "and not has_column_privilege(%s, c.oid, a.attnum, 'select') order by 1, 2",
            role,
        ):
            name = f"select ({row['column']}) on {row['table']} to {role}"
            yield Mutation("right granted", name, f"grant {name}")


_REFUSAL = re.compile(r"\bif\b(?P<condition>(?:(?!\bthen\b|;).)*?)\bthen\s+(?:--[^\n]*\n\s*)*raise\b", re.DOTALL)
_OWNER = re.compile(r"\b\w+\.owner_id (?:=|<>) (?:\([^()]*(?:\([^()]*\))?[^()]*\)|%\d\$L|[\w.]+(?:::uuid)?)")
_CALLER = re.compile(r"\(select pipeline\.caller\(\)\)|pipeline\.caller\(\)|\(select auth\.role\(\)\)")
_ENTRIES = ("begin_parse", "begin_embeddings", "store_embeddings", "publish", "object_written", "object_gone")
"""Where the bytes, the text and the vectors of owners pass, beside what clients call."""


def _functions(w: World) -> Iterator[Mutation]:
    functions = w.sql(
        "select p.oid, p.pronamespace::regnamespace::text || '.' || p.proname as name, "
        "p.oid::regprocedure::text as signature, "
        "p.prosecdef as definer, pg_get_functiondef(p.oid) as text, p.prosrc as body from pg_proc p "
        f"where p.pronamespace in {OURS} and p.prokind = 'f' order by 2"
    )
    reached = _reached(functions)
    for function in functions:
        name, signature, text, body = (function[key] for key in ("name", "signature", "text", "body"))
        flipped = "invoker" if function["definer"] else "definer"
        if function["definer"] or name.startswith("public."):
            yield Mutation(f"made security {flipped}", signature, f"alter function {signature} security {flipped}")
        yield Mutation("path left open", signature, f"alter function {signature} reset search_path")
        for kind, pattern, instead in (
            ("refusal taken out", _REFUSAL, lambda m: m[0].replace(m["condition"], " false ", 1)),
            ("owner not compared", _OWNER, lambda _: "true"),
            ("caller not asked", _CALLER, lambda m: "'service_role'" if "role" in m[0] else "null::uuid"),
        ):
            if kind == "owner not compared" and name not in reached:
                continue
            everywhere, n = body, 0
            for n, match in enumerate(pattern.finditer(body), 1):
                changed = body[: match.start()] + instead(match) + body[match.end() :]
                everywhere = everywhere.replace(match[0], instead(match))
                said = " ".join((match.groupdict().get("condition") or match[0]).split())
                yield Mutation(kind, f"{name} #{n}: {said}", text.replace(body, changed))
            if n > 1 and kind == "owner not compared":
                yield Mutation(kind, f"{name}: nowhere", text.replace(body, everywhere))


def _reached(functions: list[dict[str, Any]]) -> set[str]:
    """The functions that clients, or an owner's content, get to."""
    bodies = {function["name"]: function["text"] for function in functions}
    reached: set[str] = set()
    waiting = [name for name in bodies if name.startswith("public.")] + [f"pipeline.{name}" for name in _ENTRIES]
    while waiting:
        name = waiting.pop()
        if name in bodies and name not in reached:
            reached.add(name)
            waiting += {f"pipeline.{called}" for called in re.findall(r"pipeline\.(\w+)\(", bodies[name])}
    return reached


def _views(w: World) -> Iterator[Mutation]:
    for row in w.sql(
        f"select oid::regclass::text as name from pg_class where relnamespace in {OURS} and relkind = 'v' order by 1"
    ):
        yield Mutation("view made its owner's", row["name"], f"alter view {row['name']} set (security_invoker = false)")


def _constraints(w: World) -> Iterator[Mutation]:
    for rule in integrity.rules(w):
        yield Mutation("constraint dropped", str(rule), rule.dropped(w), rule)


def _triggers(w: World) -> Iterator[Mutation]:
    for row in w.sql(
        "select t.tgname as name, t.tgrelid::regclass::text as table from pg_trigger t join pg_proc p on p.oid "
        "= t.tgfoid "
        "where p.pronamespace = 'pipeline'::regnamespace and not t.tgisinternal order by 2, 1"
    ):
        yield Mutation(
            "trigger dropped", f"{row['name']} on {row['table']}", f"drop trigger {row['name']} on {row['table']}"
        )


def _roles() -> Iterator[Mutation]:
    for attribute in ("superuser", "bypassrls", "createrole", "createdb", "replication", "inherit"):
        yield Mutation("role widened", f"pipeline_worker {attribute}", f"alter role pipeline_worker {attribute}")
    yield Mutation(
        "role widened", "its statements may run for ever", "alter role pipeline_worker reset statement_timeout"
    )
    yield Mutation(
        "role widened",
        "its transactions may idle",
        "alter role pipeline_worker reset idle_in_transaction_session_timeout",
    )
    for member, role in (
        ("authenticated", "service_role"),
        ("anon", "authenticated"),
        ("pipeline_worker", "service_role"),
        ("pipeline_worker", "authenticator"),
        ("authenticated", "pipeline_worker"),
        ("authenticator", "pipeline_worker"),
    ):
        yield Mutation("role widened", f"{member} is {role}", f"grant {role} to {member}")
    yield Mutation("bucket widened", "public", "update storage.buckets set public = true where id = 'documents'")
    yield Mutation("bucket widened", "size", "update storage.buckets set file_size_limit = null where id = 'documents'")
    yield Mutation("setting widened", "anonymous sign-ins", "update pipeline.settings set anonymous_sign_ins = true")
    yield Mutation("publication widened", "our tables", "create publication followed for tables in schema pipeline")
