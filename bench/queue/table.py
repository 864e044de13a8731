"""The figures as Markdown tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def markdown(figures: dict[str, Any]) -> str:
    """Tables of what `measure` returned, in the order of its contestants."""
    rows: dict[str, dict[str, Any]] = figures["contestants"]
    parts = [
        f"{figures['jobs']:,} jobs, medians of {figures['rounds']}, {figures['wakes']} wake-ups, "
        f"{figures['cores']} cores, Python {figures['python']}.",
        _table(
            ("jobs a second", "1 process", "2 processes", "statements a job", "CPU s per 1,000 jobs", "2, fsync off"),
            (
                (
                    _named(name, row),
                    _number(row, "durable", "jobs_per_second_with_1"),
                    _number(row, "durable", "jobs_per_second_with_2"),
                    _number(row, "durable", "statements_per_job_with_2"),
                    _number(row, "durable", "cpu_seconds_per_1000_with_2"),
                    _number(row, "off", "jobs_per_second_with_2"),
                )
                for name, row in rows.items()
                if "durable" in row or "missing" in row
            ),
        ),
        _table(
            ("from COMMIT to start, ms", "p50", "p95", "p99"),
            (
                (name, *(_number(row, "commit_to_start", f"p{part}_ms") for part in (50, 95, 99)))
                for name, row in rows.items()
                if "commit_to_start" in row
            ),
        ),
        _table(
            (
                "eight listeners",
                "statements a second at rest",
                "CPU ms a second at rest",
                "statements a job",
                "CPU ms a job",
            ),
            (
                (
                    name,
                    *(
                        _number(row, "eight_listeners", key)
                        for key in (
                            "statements_per_second_at_rest",
                            "cpu_ms_per_second_at_rest",
                            "statements_per_job",
                            "cpu_ms_per_job",
                        )
                    ),
                )
                for name, row in rows.items()
                if "eight_listeners" in row
            ),
        ),
        _table(
            ("enqueued a second", "one a transaction", "1,000 a statement"),
            (
                (name, *(_number(row, "enqueue", f"{mode}_per_second") for mode in ("single", "bulk")))
                for name, row in rows.items()
                if "enqueue" in row
            ),
        ),
        _table(("queue", "settings"), ((_named(name, row), row["settings"]) for name, row in rows.items())),
    ]
    return "\n\n".join(parts)


def _named(name: str, row: dict[str, Any]) -> str:
    return f"{name} {row['version']}".strip() + (f" ({row['missing']})" if "missing" in row else "")


def _number(row: dict[str, Any], part: str, key: str) -> str:
    value = row.get(part, {}).get(key)
    if value is None:
        return ""
    return f"{value:,}" if value >= 1000 else str(value)


def _table(head: Sequence[str], rows: Any) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
