"""`pipeline migrate`: brings a project's database up to this release."""

from __future__ import annotations

import secrets
from typing import Annotated
from urllib.parse import quote

import typer
from psycopg.conninfo import conninfo_to_dict

from cli.common import DatabaseOption, JsonOption, notice, operator_url, print_json, run, say
from pipeline import migrate as migrations
from pipeline.preflight import NotReady
from pipeline.settings import load


def migrate(
    db_url: DatabaseOption = None,
    space: Annotated[
        str | None, typer.Option(help="Let search read this embedding space afterwards.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be applied, or what stands in the way, and change nothing."),
    ] = False,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Give pipeline_worker a new generated password.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Apply what the database lacks; twice changes nothing. What stands in the way is named before anything is touched.

    The listener's role gets the password UPLOAD_PIPELINE_WORKER_PASSWORD. Where that is not set, a first migration
    generates one and prints the connection string once.

    Example: `pipeline migrate --space all-MiniLM-L6-v2-int8-384`
    """
    settings = load()
    url = operator_url(settings, db_url)
    missing = run(migrations.pending(url))
    if dry_run:
        try:
            run(migrations.preflight(url))
        except NotReady as error:
            if not json:
                raise
            print_json({"pending": missing, "in_the_way": [obstacle.as_dict() for obstacle in error.obstacles]})
            raise typer.Exit(1) from None
        if json:
            print_json({"pending": missing, "in_the_way": []})
        else:
            say("\n".join(f"would apply {name}" for name in missing) or "Nothing to apply.")
        return
    password = settings.worker_password.get_secret_value()
    first = any(name.partition("_")[2] == "foundation" for name in missing)
    generated = not password and (first or new_password)
    if generated:
        password = secrets.token_urlsafe(24)
    applied = run(migrations.apply(url, worker_password=password or None, activate_space=space))
    worker_url = _worker_url(url, password) if generated else None
    if json:
        print_json({"applied": applied, "space": space, "worker_db_url": worker_url})
        return
    for name in applied:
        say(f"applied {name}")
    if not applied:
        say("Nothing to apply.")
    if space:
        say(f"Search reads the space {space}.")
    if worker_url:
        notice("The listener's connection string, shown this once; keep it as UPLOAD_PIPELINE_DATABASE_URL:")
        say(worker_url)
    elif password:
        notice("pipeline_worker has the password UPLOAD_PIPELINE_WORKER_PASSWORD.")


def _worker_url(db_url: str, password: str) -> str:
    parts = {key: str(value) for key, value in conninfo_to_dict(db_url).items() if value is not None}
    host = parts.get("host", "localhost")
    options = "&".join(f"{key}={quote(parts[key], safe='')}" for key in ("sslmode", "sslrootcert") if key in parts)
    return (
        f"postgresql://pipeline_worker:{quote(password, safe='')}@{f'[{host}]' if ':' in host else host}:"
        f"{parts.get('port', '5432')}/{parts.get('dbname', 'postgres')}" + (f"?{options}" if options else "")
    )
