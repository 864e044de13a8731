"""How a command ends that could not do its work: one sentence, the remedy, and exit code 1; never a traceback."""

from __future__ import annotations

import traceback
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from cli.common import err
from pipeline.errors import PipelineError

_LONGEST = 600


class Guarded(TyperGroup):
    """The root group: it turns what a command raises into a sentence. `--debug` shows the traceback as well."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.TyperException, typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            console = err()
            console.print(f"[bold red]Error:[/] {escape(sentence(error))}")
            raise typer.Exit(1) from None


def sentence(error: BaseException) -> str:
    """What went wrong, for the person at the terminal."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, PipelineError):
        return str(error)
    module = type(error).__module__.partition(".")[0]
    match module:
        case "psycopg":
            return _database(error)
        case "httpx" | "httpcore":
            return _unanswered(error)
        case "supabase_auth" if type(error).__name__ == "AuthRetryableError":
            return _unanswered(error)
        case "storage3" | "postgrest" | "supabase_auth" | "supabase":
            message = getattr(error, "message", None) or str(error)
            hint = getattr(error, "hint", None)
            return f"The project refused: {_short(str(message))}" + (f" {hint}" if hint else "")
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"Something unexpected happened ({_text(error)}). `pipeline --debug …` shows where."


def _unanswered(error: BaseException) -> str:
    return (
        f"The project does not answer ({_text(error)}). Check UPLOAD_PIPELINE_SUPABASE_URL and the network, "
        "or start a local one with `pipeline dev`."
    )


def _database(error: BaseException) -> str:
    diagnosis = getattr(error, "diag", None)
    primary = getattr(diagnosis, "message_primary", None)
    if not primary:
        return f"The database does not answer: {_short(str(error))} Check the connection string, port 5432."
    hint = getattr(diagnosis, "message_hint", None)
    if getattr(error, "sqlstate", None) in ("42P01", "3F000", "42883") and "pipeline" in primary:
        hint = "The database is not migrated: run `pipeline migrate`."
    return f"The database refused: {primary}" + (f" {hint}" if hint else "")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {_short(str(error))}" if str(error) else type(error).__name__


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
