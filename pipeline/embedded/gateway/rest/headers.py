"""The headers that steer a Data API request: Accept, Prefer, Range, the schema profile; and those of its answer."""

from __future__ import annotations

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from pipeline.embedded.gateway.rest.errors import RestError

EXPOSED_SCHEMA = "public"
MAX_ROWS = 1000

_PREFERENCES: dict[str, tuple[str, ...]] = {
    "return": ("minimal", "headers-only", "representation"),
    "count": ("exact", "planned", "estimated"),
    "resolution": ("merge-duplicates", "ignore-duplicates"),
    "missing": ("default", "null"),
    "handling": ("strict", "lenient"),
    "tx": ("commit", "rollback"),
}


@dataclass(frozen=True, slots=True)
class Preferences:
    """What `Prefer` asks for. Planned and estimated counts are answered exactly: the tables are small here."""

    returning: str = "minimal"
    count: bool = False
    resolution: str | None = None
    defaults: bool = False
    max_affected: int | None = None
    applied: str = ""


@dataclass(frozen=True, slots=True)
class Media:
    """The form of the body that `Accept` asks for."""

    type: str = "application/json; charset=utf-8"
    single: bool = False
    strip_nulls: bool = False


def check_profile(headers: Headers, name: str) -> None:
    """Refuse any schema but the exposed one (PGRST106)."""
    profile = headers.get(name)
    if profile is not None and profile != EXPOSED_SCHEMA:
        raise RestError(
            406,
            "PGRST106",
            f"Invalid schema: {profile}",
            hint=f"Only the following schemas are exposed: {EXPOSED_SCHEMA}",
        )


def preferences(headers: Headers) -> Preferences:
    """Read every `Prefer` header; with handling=strict an unknown preference is an error (PGRST122)."""
    found: dict[str, str] = {}
    unknown: list[str] = []
    max_affected: int | None = None
    for item in ",".join(headers.getlist("prefer")).split(","):
        name, _, value = item.strip().partition("=")
        if value in _PREFERENCES.get(name, ()):
            found.setdefault(name, value)
        elif name == "max-affected" and re.fullmatch(r"\d{1,18}", value, re.ASCII):
            max_affected = int(value)
        elif name and name != "timezone":
            unknown.append(item.strip())
    strict = found.get("handling") == "strict"
    if strict and unknown:
        raise RestError(
            400,
            "PGRST122",
            "Invalid preferences given with handling=strict",
            details=f"Invalid preferences: {', '.join(unknown)}",
        )
    applied = [f"{name}={value}" for name, value in found.items() if name != "tx"]
    if strict and max_affected is not None:
        applied.append(f"max-affected={max_affected}")
    return Preferences(
        returning=found.get("return", "minimal"),
        count="count" in found,
        resolution=found.get("resolution"),
        defaults=found.get("missing") == "default",
        max_affected=max_affected if strict else None,
        applied=", ".join(applied),
    )


def media(headers: Headers) -> Media:
    """Choose the first form of `Accept` that there is (else PGRST107)."""
    accept = headers.get("accept", "*/*")
    for item in accept.split(","):
        name, *options = (part.strip().lower() for part in item.split(";"))
        strip = "nulls=stripped" in options
        if name in ("*/*", "application/*", "application/json"):
            return Media()
        if name == "application/vnd.pgrst.array+json":
            suffix = ";nulls=stripped" if strip else ""
            return Media(f"application/vnd.pgrst.array+json{suffix}; charset=utf-8", strip_nulls=strip)
        if name in ("application/vnd.pgrst.object+json", "application/vnd.pgrst.object"):
            suffix = ";nulls=stripped" if strip else ""
            return Media(f"application/vnd.pgrst.object+json{suffix}; charset=utf-8", single=True, strip_nulls=strip)
    raise RestError(
        406,
        "PGRST107",
        f"None of these media types are available: {accept}",
        hint="The embedded Data API answers in JSON only.",
    )


def window(headers: Headers, limit: int | None, offset: int) -> tuple[int, int]:
    """The (limit, offset) of a page, from the query's and the Range header's, never above MAX_ROWS."""
    found = re.fullmatch(r"(\d{1,18})-(\d{0,18})", headers.get("range", "").strip(), re.ASCII)
    if found and headers.get("range-unit", "items") == "items":
        first = int(found[1])
        last = int(found[2]) if found[2] else None
        if last is not None and last < first:
            raise RestError(
                416,
                "PGRST103",
                "Requested range not satisfiable",
                details="The lower boundary must be lower than or equal to the upper boundary in the Range header.",
            )
        width = MAX_ROWS if last is None else last - first + 1
        limit = width if limit is None else min(limit, width)
        offset = max(offset, first)
    return min(limit if limit is not None else MAX_ROWS, MAX_ROWS), offset


def content_range(offset: int, rows: int, total: int | None) -> tuple[int, str]:
    """The status and Content-Range of a page: 200, 206 when it is a part, or PGRST103 when it lies behind the end."""
    if total is not None and offset > total:
        raise RestError(
            416,
            "PGRST103",
            "Requested range not satisfiable",
            details=f"An offset of {offset} was requested, but there are only {total} rows.",
            headers={"Content-Range": f"*/{total}"},
        )
    span = f"{offset}-{offset + rows - 1}" if rows else "*"
    status = 206 if total is not None and rows < total else 200
    return status, f"{span}/{'*' if total is None else total}"
