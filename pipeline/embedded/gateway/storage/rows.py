"""The statements that write `storage.objects`, each as a step of a transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pipeline.embedded.gateway.storage.database import Step


def iso(column: str) -> str:
    """SQL for a time as the real server writes it, in UTC with milliseconds."""
    return f"""to_char({column} at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""


AS_JSON = (
    "(to_jsonb(objects) - '{path_tokens,archived_at,is_delete_marker,is_versioned}'::text[] || jsonb_build_object("
    f"'created_at', {iso('objects.created_at')}, 'updated_at', {iso('objects.updated_at')}, "
    f"'last_accessed_at', {iso('objects.last_accessed_at')}, "
    "'owner', coalesce(objects.owner::text, ''), 'owner_id', coalesce(objects.owner_id, '')))::text"
)
"""A row of `storage.objects` as the real server shows it; no owner is an empty text."""

_INSERT = (
    "insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata, user_metadata) "
    "values (%s, %s, %s::uuid, %s, %s, %s::jsonb, %s::jsonb)"
)
# A service key has no owner to give and leaves the one that the object has.
_UPSERT = _INSERT + (
    " on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata, "
    "user_metadata = coalesce(excluded.user_metadata, objects.user_metadata), "
    "owner = coalesce(excluded.owner, objects.owner), owner_id = coalesce(excluded.owner_id, objects.owner_id) "
    f"returning id, {AS_JSON}"
)
_MOVE = (
    "update storage.objects set bucket_id = %(to_bucket)s, name = %(to_name)s, version = %(version)s, "
    "owner = coalesce(%(owner_uuid)s::uuid, owner), owner_id = coalesce(%(owner)s, owner_id), "
    "metadata = coalesce(%(metadata)s::jsonb, metadata) "
    "where bucket_id = %(bucket)s and name = %(name)s "
    "and (%(replaces)s::text is null or version = %(replaces)s) returning id"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One object's row as it is to be written."""

    bucket: str
    name: str
    version: str
    owner: str | None
    metadata: dict[str, Any]
    user_metadata: dict[str, Any] | None

    def _values(self) -> tuple[Any, ...]:
        user_metadata = None if self.user_metadata is None else json.dumps(self.user_metadata)
        metadata = json.dumps(self.metadata)
        owner = self.owner
        return self.bucket, self.name, uuid_or_none(owner), owner, self.version, metadata, user_metadata

    def insert(self) -> Step:
        """Returns nothing, so that a policy for INSERT is enough."""
        return _INSERT, self._values()

    def upsert(self) -> Step:
        """Returns the id and the whole row, so that SELECT is asked for too, as by the real server."""
        return _UPSERT, self._values()


def uuid_or_none(owner: str | None) -> str | None:
    """The deprecated column `owner` is a uuid; a subject that is none stands in `owner_id` alone."""
    try:
        return str(UUID(owner)) if owner else None
    except ValueError:
        return None


def find(bucket: str, name: str, columns: str = "id, version", *, lock: bool = False) -> Step:
    """`columns` is text of ours, never of a client."""
    statement = f"select {columns} from storage.objects where bucket_id = %s and name = %s"  # noqa: S608
    return statement + (" for update" if lock else ""), (bucket, name)


def move(
    source: tuple[str, str],
    target: tuple[str, str],
    version: str,
    owner: str | None,
    *,
    replaces: str | None = None,
    metadata: str | None = None,
) -> Step:
    """Returns the renamed row's id, if one could be seen; `replaces` is the version that it must have."""
    return _MOVE, {
        "bucket": source[0],
        "name": source[1],
        "to_bucket": target[0],
        "to_name": target[1],
        "version": version,
        "replaces": replaces,
        "owner_uuid": uuid_or_none(owner),
        "owner": owner,
        "metadata": metadata,
    }
