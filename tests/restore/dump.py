"""A dump as `supabase db dump` makes it: pg_dump with its exclusions, and its changes to the text."""

from __future__ import annotations

import asyncio
import os
import re

from pipeline.embedded import EmbeddedSupabase
from pipeline.embedded.postgres import binary

_SCHEMA_LEAVES_OUT = (
    "information_schema|pg_*|_analytics|_realtime|_supavisor|auth|etl|extensions|pgbouncer|realtime|storage|"
    "supabase_functions|supabase_migrations|cron|dbdev|graphql|graphql_public|net|pgmq|pgsodium|pgsodium_masks|pgtle|"
    "repack|tiger|tiger_data|timescaledb_*|_timescaledb_*|topology|vault|supabase_platform"
)
"""The last is the embedded project's own, which stands for what supautils refuses."""
_DATA_LEAVES_OUT = (
    "information_schema|pg_*|graphql|graphql_public|pgsodium|pgsodium_masks|pgtle|repack|tiger|tiger_data|"
    "timescaledb_*|_timescaledb_*|topology|vault|etl|extensions|pgbouncer|realtime|supabase_migrations|_analytics|"
    "_realtime|_supavisor"
)
_RESERVED = (
    "anon|authenticated|authenticator|cli_login_.*|dashboard_user|pgbouncer|postgres|service_role|supabase_.*|"
    "pgsodium_keyholder|pgsodium_keyiduser|pgsodium_keymaker|pgtle_admin"
)
_SCHEMA_RULES = (
    (r"^\\(un)?restrict .*$", r"-- \g<0>"),
    (r'^CREATE SCHEMA "', 'CREATE SCHEMA IF NOT EXISTS "'),
    (r'^CREATE TABLE "', 'CREATE TABLE IF NOT EXISTS "'),
    (r'^CREATE SEQUENCE "', 'CREATE SEQUENCE IF NOT EXISTS "'),
    (r'^CREATE VIEW "', 'CREATE OR REPLACE VIEW "'),
    (r'^CREATE FUNCTION "', 'CREATE OR REPLACE FUNCTION "'),
    (r'^CREATE TRIGGER "', 'CREATE OR REPLACE TRIGGER "'),
    (r'^CREATE PUBLICATION "supabase_realtime', r"-- \g<0>"),
    (r"^CREATE EVENT TRIGGER ", r"-- \g<0>"),
    (r"^         WHEN TAG IN ", r"-- \g<0>"),
    (r"^   EXECUTE FUNCTION ", r"-- \g<0>"),
    (r"^ALTER EVENT TRIGGER ", r"-- \g<0>"),
    (r'^ALTER PUBLICATION "supabase_realtime', r"-- \g<0>"),
    (r'^ALTER DEFAULT PRIVILEGES FOR ROLE "supabase_admin"', r"-- \g<0>"),
    (rf'^(GRANT|REVOKE) (.+) ON (.+) "({_SCHEMA_LEAVES_OUT})"', r"-- \g<0>"),
    (r"^COMMENT ON EXTENSION (.+)", r"-- \g<0>"),
    (r"^SET transaction_timeout = 0;", r"-- \g<0>"),
)
_ROLE_RULES = (
    (r"^\\(un)?restrict .*$", r"-- \g<0>"),
    (rf'^CREATE ROLE "({_RESERVED})"', r"-- \g<0>"),
    (rf'^ALTER ROLE "({_RESERVED})"', r"-- \g<0>"),
    (r" (NOSUPERUSER|NOREPLICATION)", ""),
    (rf'^GRANT ".*" TO "({_RESERVED})"', r"-- \g<0>"),
)


async def _run(project: EmbeddedSupabase, program: str, *options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        str(binary(program)), f"--dbname={project.db_url}", "--quote-all-identifier", "--role=postgres", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | {"PGSSLMODE": "disable"},
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode == 0, err.decode()
    return out.decode()


def _changed(text: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, instead in rules:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text


async def roles(project: EmbeddedSupabase) -> str:
    """`supabase db dump --role-only`"""
    text = await _run(project, "pg_dumpall", "--roles-only", "--no-role-passwords", "--no-comments")
    return _changed(text, _ROLE_RULES) + "RESET ALL;"


async def schema(project: EmbeddedSupabase) -> str:
    """`supabase db dump`"""
    text = await _run(project, "pg_dump", "--schema-only", f"--exclude-schema={_SCHEMA_LEAVES_OUT}")
    return _changed(text, _SCHEMA_RULES)


async def data(project: EmbeddedSupabase, *schemas: str) -> str:
    """`supabase db dump --data-only`, of the platform's schemas too, or with `--schema` of those named."""
    which = [f"--schema={'|'.join(schemas)}"] if schemas else ["--schema=*", f"--exclude-schema={_DATA_LEAVES_OUT}"]
    text = await _run(project, "pg_dump", "--data-only", "--column-inserts", "--rows-per-insert=100000", *which)
    return "SET session_replication_role = replica;\n" + _changed(text, _SCHEMA_RULES[:1]) + "RESET ALL;"
