"""`pipeline migrate`: brings a project's database up to this release."""

from __future__ import annotations

import secrets
from typing import Annotated
from urllib.parse import quote

import typer
from psycopg.conninfo import conninfo_to_dict

from cli.common import DatabaseOption, JsonOption, notice, operator_url, print_json, run, say
from pipeline.db.connection import MIGRATION, connect
from pipeline.errors import SetupError
from pipeline.operate import migrate as migrations
from pipeline.operate.catalogue.adopt import adopt, adoptable
from pipeline.operate.catalogue.mend import Mended, mend
from pipeline.operate.doctor import chunks_without_vector
from pipeline.operate.preflight import NotReady
from pipeline.settings import load

_NAMED = 20
"""So many parts are named; `--json` names all."""


def migrate(
    db_url: DatabaseOption = None,
    space: Annotated[
        str | None, typer.Option(help="Let search read this embedding space afterwards.", show_default=False)
    ] = None,
    even_incomplete: Annotated[
        bool, typer.Option("--even-incomplete", help="Switch to the space although chunks lack vectors in it.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what would be applied, or what stands in the way, and change nothing."),
    ] = False,
    new_password: Annotated[
        bool, typer.Option("--new-password", help="Give pipeline_worker a new generated password.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Apply what the database lacks, and put back what it has lost, as after a restore; twice changes nothing.

    What stands in the way is named before anything is touched.

    The listener's role gets the password UPLOAD_PIPELINE_WORKER_PASSWORD. Where that is not set, a first migration
    generates one and prints the connection string once.

    Example: `pipeline migrate --space all-MiniLM-L6-v2-int8-384`
    """
    settings = load()
    url = operator_url(settings, db_url)
    run(migrations.refuse_newer(url))
    adopted = run(_adopt(url, dry_run=dry_run))
    missing = [] if adopted else run(migrations.pending(url))
    if dry_run:
        try:
            if not adopted:
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
    applied = run(migrations.apply(url))
    mended = run(_mend(url))
    # Behind it: the role and the space may have been missing.
    run(_finish(url, password or None, space, even_incomplete=even_incomplete))
    worker_url = _worker_url(url, password) if generated else None
    if json:
        print_json(
            {
                "applied": applied,
                "adopted": adopted,
                "put_back": mended.done,
                "not_put_back": [{"part": str(d), "reason": reason} for d, reason in mended.left],
                "space": space,
                "worker_db_url": worker_url,
            }
        )
        _judge(mended)
        return
    if adopted:
        say("The schema was restored without the record of its migrations; they are on record again.")
    for name in applied:
        say(f"applied {name}")
    for name in mended.done[:_NAMED]:
        say(f"put back {name}")
    if len(mended.done) > _NAMED:
        say(f"put back {len(mended.done) - _NAMED} more")
    if not applied and not mended.done:
        say("Nothing to apply.")
    if space:
        say(f"Search reads the space {space}.")
    if worker_url:
        notice("The listener's connection string, shown this once; keep it as UPLOAD_PIPELINE_DATABASE_URL:")
        say(worker_url)
    elif password:
        notice("pipeline_worker has the password UPLOAD_PIPELINE_WORKER_PASSWORD.")
    if mended.done and not applied:
        notice("What happened while it was missing went unseen. Run `pipeline doctor --fix`.")
    _judge(mended)


async def _adopt(url: str, *, dry_run: bool) -> bool:
    async with await connect(url, MIGRATION) as connection:
        return await (adoptable if dry_run else adopt)(connection)


async def _finish(url: str, password: str | None, space: str | None, *, even_incomplete: bool) -> None:
    if space and not even_incomplete:
        async with await connect(url, MIGRATION) as connection:
            chunks, documents = await chunks_without_vector(connection, space, _told)
        if chunks:
            raise SetupError(
                f"{chunks:,} chunks of {documents:,} documents have no vector in the space {space}: semantic search "
                "would not find them. Search reads the space that it read before. To switch all the same, and have "
                f"them embedded afterwards: `pipeline migrate --space {space} --even-incomplete`, start listeners of "
                "that space, and `pipeline doctor --fix`."
            )
    await migrations.apply(url, worker_password=password, activate_space=space)


def _told(walk: str, rows: int) -> None:
    if rows and rows % 10_000 == 0:
        notice(f"{walk}: {rows:,} looked at")


async def _mend(url: str) -> Mended:
    async with await connect(url, MIGRATION) as connection:
        return await mend(connection)


def _judge(mended: Mended) -> None:
    """Raises SetupError where something is missing still."""
    if mended.left:
        named = [f"{difference}: {reason}" for difference, reason in mended.left[:_NAMED]]
        more = len(mended.left) - len(named)
        raise SetupError("Could not be put back:\n" + "\n".join(named) + (f"\nand {more} more" if more else ""))


def _worker_url(db_url: str, password: str) -> str:
    parts = {key: str(value) for key, value in conninfo_to_dict(db_url).items() if value is not None}
    host = parts.get("host", "localhost")
    options = "&".join(f"{key}={quote(parts[key], safe='')}" for key in ("sslmode", "sslrootcert") if key in parts)
    return (
        f"postgresql://pipeline_worker:{quote(password, safe='')}@{f'[{host}]' if ':' in host else host}:"
        f"{parts.get('port', '5432')}/{parts.get('dbname', 'postgres')}" + (f"?{options}" if options else "")
    )
