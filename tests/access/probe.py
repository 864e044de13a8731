"""Every right that a role has on what is ours, found by trying: the statements are planned as that role, not run."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from tests.access.world import World

NOBODY = uuid.UUID(int=0)
CLIENTS = ("anon", "authenticated", "service_role")
PGTAP = Path(__file__).resolve().parents[2] / "supabase/tests/access.test.sql"

_VIEWS = {
    "chunks": "id document_id name ordinal page heading content parser embedding_model",
    "documents": "id name size media_type page_count chunk_count failed_pages up_to_date published_at parser "
    "embedding_model created_at updated_at job_id job_state job_error",
    "jobs": "id document_id name state stage progress attempt failures error available_at created_at started_at "
    "finished_at",
}
_BEHIND = {
    "chunks": "id document_id job_id owner_id ordinal page heading content",
    "documents": "id owner_id object_version name size published_version published_at published_job_id media_type "
    "page_count failed_pages chunk_count parser embedding_model created_at updated_at deleted_at",
    "jobs": "id document_id owner_id name state stage progress attempt failures available_at error created_at "
    "started_at "
    "finished_at",
}

_TRY = (Path(__file__).parent / "try_every_right.sql").read_text("utf-8")


def rights(w: World, role: str) -> set[str]:
    """What the role may do on pipeline and public, and where it may create; with usage on the private schema, so that
    each right is seen by itself."""
    with w.aside():
        w.be("postgres")
        w.sql(f"grant usage on schema pipeline to {role}")
        w.be(role)
        w.sql(_TRY)
        return set(w.value("select current_setting('attack.granted')").splitlines())


def allowed(w: World, role: str) -> set[str]:
    """What was written down. Functions and the listener's tables stand in supabase/tests/access.test.sql, which whoever
    adds one edits."""
    text = PGTAP.read_text("utf-8")
    granted: set[str] = set()
    if role in ("authenticated", "service_role"):
        for schema, columns in (("public", _VIEWS), ("pipeline", _BEHIND)):
            granted |= {
                f"{schema}.{table}({name}) select" for table, names in columns.items() for name in names.split()
            }
    if role == "service_role":
        functions = {"pipeline.retry_own_job", "pipeline.cancel_own_job", "public.retry_job", "public.cancel_job"}
    elif role == "authenticated":
        functions = {f"public.{name}" for name in _array(text, r"functions_are\('public',")}
        functions |= {f"pipeline.{name}" for name in _array(text, r"has_function_privilege\('authenticated'")}
    elif role == "pipeline_worker":
        functions = {f"pipeline.{name}" for name in _array(text, r"has_function_privilege\('pipeline_worker'")}
        tables = _array(text, r"'r', 'v'\) and has_table_privilege\('pipeline_worker', c.oid, 'select'\)")
        columns = w.sql(
            "select c.relname as table, a.attname as name from pg_class c join pg_attribute a on a.attrelid = c.oid "
            "where c.relnamespace = 'pipeline'::regnamespace and c.relname = any (%s) and attnum > 0 and not "
            "attisdropped",
            list(tables),
        )
        granted |= {f"pipeline.{column['table']}({column['name']}) select" for column in columns}
    else:
        functions = set()
    return granted | {f"{name} execute" for name in functions}


def _array(text: str, behind: str) -> set[str]:
    """The names in the first array behind a pattern in the pgTAP file."""
    found = re.search(behind + r".*?array\[(.*?)\]", text, re.DOTALL)
    assert found, behind
    return set(re.findall(r"'(\w+)'", found[1]))
