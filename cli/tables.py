"""How jobs and the state of the queue look on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from cli.names import readable

STYLES = {"available": "cyan", "running": "yellow", "completed": "green", "dead": "bold red", "cancelled": "dim"}


def jobs_table(rows: list[dict[str, Any]], *, title: str | None = None) -> Table:
    """Jobs, one a row: how far each is, and why it ended where it ended without a result."""
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="dim")
    for column, options in (
        ("id", {"justify": "right", "no_wrap": True}),
        ("state", {"no_wrap": True}),
        ("stage", {"no_wrap": True}),
        ("tries", {"justify": "right", "no_wrap": True}),
        ("age", {"justify": "right", "no_wrap": True}),
        ("owner", {"overflow": "ellipsis", "no_wrap": True}),
        ("name", {"overflow": "fold"}),
        ("error", {"overflow": "fold"}),
    ):
        table.add_column(column, **options)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(
            str(row["id"]),
            state(row),
            stage(row),
            str(row["attempt"]),
            age(row["created_at"]),
            escape(str(row.get("email") or row["owner_id"])),
            escape(readable(row["name"].partition("/")[2])),
            escape(row["error"] or ""),
        )
    return table


def state(row: dict[str, Any]) -> str:
    """The state, coloured; a retry shows when it is due."""
    text = f"[{STYLES.get(row['state'], '')}]{row['state']}[/]" if row["state"] in STYLES else str(row["state"])
    due = row.get("available_at")
    if row["state"] == "available" and isinstance(due, datetime) and due > datetime.now(UTC):
        text += f" in {_duration((due - datetime.now(UTC)).total_seconds())}"
    return text


def stage(row: dict[str, Any]) -> str:
    """The stage of a job that runs or failed, with the part of it that is done."""
    if not row["stage"] or row["state"] in ("available", "completed"):
        return ""
    return f"{row['stage']} {row['progress']:.0%}" if row["state"] == "running" else str(row["stage"])


def age(since: datetime | None) -> str:
    """The time that has passed, in its largest unit."""
    return _duration((datetime.now(UTC) - since).total_seconds()) if since else ""


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def health_line(health: dict[str, Any]) -> str:
    """The queue in one line."""
    parts = [f"{health['due']} due", f"{health['running']} running"]
    if health["waiting_for_retry"]:
        parts.append(f"{health['waiting_for_retry']} waiting for a retry")
    if health["expired_leases"]:
        parts.append(f"{health['expired_leases']} with an expired lease")
    parts.append(f"{health['dead']} dead")
    if health["due"]:
        parts.append(f"the oldest due for {_duration(health['oldest_due_seconds'])}")
    return ", ".join(parts)


def warnings(health: dict[str, Any]) -> list[str]:
    """Why nothing may be happening."""
    found = []
    if health["paused"]:
        found.append("The queue is paused; `pipeline resume` goes on.")
    if not health["listeners"]:
        seen = health["listener_last_seen_at"]
        since = (
            f"No listener has been seen since {seen:%Y-%m-%d %H:%M:%S} UTC ({age(seen)} ago)"
            if seen
            else "No listener has ever been seen"
        )
        found.append(f"{since}; start one with `pipeline listen`.")
    return found
