"""Writes .env.example from the settings, so that the two cannot part: `python -m cli.env_example > .env.example`."""

from __future__ import annotations

import sys
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from pipeline.settings import PREFIX, Settings

_SECTIONS = {
    "environment": "The project",
    "parser": "Reading files",
    "embedder": "Embedding",
    "chunk_tokens": "Passages",
    "concurrency": "The listener",
    "log_level": "Its log",
}
_REQUIRED = ("supabase_url", "supabase_anon_key", "supabase_service_role_key", "database_url", "migration_database_url")

_HEAD = """\
# Every setting of the pipeline. Copy this file to .env; the process environment goes before it.
# What is commented out shows its default. `pipeline dev --env-file .env` writes one for a project on this machine.
"""


def render() -> str:
    """The text of .env.example."""
    lines = [_HEAD]
    for name, field in Settings.model_fields.items():
        if name in _SECTIONS:
            lines.append(f"\n# {_SECTIONS[name]} " + "-" * (100 - len(_SECTIONS[name])) + "\n")
        lines.append(f"# {_describe(name, field)}")
        lines.append(f"{'' if name in _REQUIRED else '# '}{PREFIX}{name.upper()}={_value(field.default)}\n")
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


def _describe(name: str, field: FieldInfo) -> str:
    text = field.description or name.replace("_", " ")
    if get_origin(field.annotation) is Literal:
        text += f" ({' | '.join(map(str, get_args(field.annotation)))})"
    return text


def _value(default: Any) -> str:
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


if __name__ == "__main__":
    sys.stdout.write(render())
