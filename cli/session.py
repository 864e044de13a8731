"""`pipeline sign-in` and `sign-out`: whose files the client commands work on.

The session is kept in the user's configuration folder, readable by that user alone. Its refresh token is used when
the access token has run out, and kept anew.
"""

from __future__ import annotations

import json as json_module
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs
import typer

from cli.common import JsonOption, print_json, project, run, say
from pipeline.errors import SetupError
from pipeline.settings import Settings, load

if TYPE_CHECKING:
    from supabase import AsyncClient


@dataclass(frozen=True, slots=True)
class Kept:
    """A session on disk."""

    url: str
    user_id: str
    email: str
    access_token: str
    refresh_token: str
    expires_at: float


def path() -> Path:
    """Where the session is kept."""
    return platformdirs.user_config_path("document-pipeline") / "session.json"


def keep(url: str, session: Any) -> Kept:
    """Keep what Supabase Auth answered."""
    kept = Kept(
        url=url,
        user_id=session.user.id,
        email=session.user.email or "",
        access_token=session.access_token,
        refresh_token=session.refresh_token,
        expires_at=session.expires_at or time.time() + session.expires_in,
    )
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Private from the first byte, and whole or not at all.
    new = file.with_suffix(f".{os.getpid()}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json_module.dump(asdict(kept), stream)
    new.replace(file)
    return kept


def kept_for(url: str) -> Kept:
    """The kept session. Raises SetupError where there is none for this project."""
    try:
        kept = Kept(**json_module.loads(path().read_text()))
    except (OSError, ValueError, TypeError):
        raise SetupError(
            "Nobody is signed in. Run `pipeline sign-in EMAIL`, or work with the service key: `--as-user EMAIL`."
        ) from None
    if kept.url.rstrip("/") != url.rstrip("/"):
        raise SetupError(f"{kept.email} is signed in at {kept.url}, not at {url}. Run `pipeline sign-in EMAIL`.")
    return kept


async def client_of_session(settings: Settings) -> tuple[AsyncClient, Kept]:
    """A client that acts as the signed-in user; refreshes the session where it has run out."""
    from supabase import AuthError, acreate_client

    url, key = project(settings)
    kept = kept_for(url)
    client = await acreate_client(url, key)
    try:
        answer = await client.auth.set_session(kept.access_token, kept.refresh_token)
    except AuthError as error:
        raise SetupError(
            f"The session of {kept.email} has ended ({error}). Run `pipeline sign-in {kept.email}`."
        ) from None
    if answer.session is None:
        raise SetupError(f"The session of {kept.email} has ended. Run `pipeline sign-in {kept.email}`.")
    if answer.session.refresh_token != kept.refresh_token:
        kept = keep(url, answer.session)
    return client, kept


def sign_in(
    email: Annotated[str, typer.Argument(help="The address of the account.")],
    create: Annotated[bool, typer.Option("--create", help="Make the account first.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Sign in, for `ingest` and `search`. The session is kept until `sign-out`.

    Example: `pipeline sign-in ada@example.com`
    """
    settings = load()
    url, key = project(settings)
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt(f"Password of {email}", hide_input=True, confirmation_prompt=create)
    if not password:
        raise SetupError("The password is empty.")

    async def work() -> Kept:
        from supabase import acreate_client

        client = await acreate_client(url, key)
        if create:
            answer = await client.auth.sign_up({"email": email, "password": password})
            if answer.session is None:
                raise SetupError(f"The account was made. Confirm the mail to {email}, then sign in.")
        else:
            answer = await client.auth.sign_in_with_password({"email": email, "password": password})
        return keep(url, answer.session)

    kept = run(work())
    if json:
        print_json({"user_id": kept.user_id, "email": kept.email, "url": kept.url})
    else:
        say(f"Signed in as {kept.email} ({kept.user_id}) at {kept.url}.")


def sign_out() -> None:
    """Forget the session, here and at the project.

    Example: `pipeline sign-out`
    """
    settings = load()
    if not path().exists():
        say("Nobody was signed in.")
        return

    async def work() -> None:
        client, _ = await client_of_session(settings)
        await client.auth.sign_out({"scope": "local"})

    try:
        run(work())
    except Exception as error:
        say(f"Forgotten here; the project could not be told ({type(error).__name__}).")
    else:
        say("Signed out.")
    finally:
        path().unlink(missing_ok=True)
