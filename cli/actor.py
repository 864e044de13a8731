"""Whose eyes and hands a client command uses; each run says so."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.common import notice, project
from cli.session import client_of_session
from pipeline.errors import SetupError
from pipeline.settings import Settings

if TYPE_CHECKING:
    from supabase import AsyncClient

_TOKEN_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Actor:
    """A user, and a client that may act for them."""

    client: AsyncClient
    user_id: str
    email: str


async def signed_in(settings: Settings) -> Actor:
    """The user of `pipeline sign-in`."""
    client, kept = await client_of_session(settings)
    notice(f"As {kept.email}, with the session kept by `pipeline sign-in`, at {kept.url}.")
    return Actor(client, kept.user_id, kept.email)


async def with_service_key(settings: Settings, user: str) -> Actor:
    """Any user, with the service key: it passes every policy, so only a folder of that user is touched."""
    from supabase import acreate_client

    key = settings.supabase_service_role_key.get_secret_value()
    if not settings.supabase_url or not key:
        raise SetupError("--as-user needs UPLOAD_PIPELINE_SUPABASE_URL and UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY.")
    client = await acreate_client(settings.supabase_url, key)
    found = await _find(client, user)
    notice(f"As {found.email or found.id}, with the service key, at {settings.supabase_url}.")
    return Actor(client, found.id, found.email or "")


async def with_minted_token(settings: Settings, user: str) -> Actor:
    """Any user, with a token of a few minutes signed by the project's HS256 secret: row level security holds."""
    import jwt

    from supabase import AsyncClientOptions, acreate_client

    secret = settings.jwt_secret.get_secret_value()
    if not secret:
        raise SetupError(
            "To search as a user, row level security must see that user: set UPLOAD_PIPELINE_JWT_SECRET, so that a "
            "token of a few minutes can be signed, or sign in as the user with `pipeline sign-in`."
        )
    url, key = project(settings)
    try:
        user_id, email = str(uuid.UUID(user)), ""
    except ValueError:
        actor = await with_service_key(settings, user)
        user_id, email = actor.user_id, actor.email
    now = int(time.time())
    claims = {"sub": user_id, "role": "authenticated", "aud": "authenticated", "iat": now, "exp": now + _TOKEN_SECONDS}
    token = jwt.encode(claims | {"iss": f"{url.rstrip('/')}/auth/v1", "email": email}, secret, algorithm="HS256")
    client = await acreate_client(url, key, AsyncClientOptions(headers={"Authorization": f"Bearer {token}"}))
    notice(
        f"As {email or user_id}, with a token of {_TOKEN_SECONDS // 60} minutes signed with the JWT secret, at {url}."
    )
    return Actor(client, user_id, email)


async def _find(client: AsyncClient, user: str) -> Any:
    try:
        wanted = str(uuid.UUID(user))
    except ValueError:
        wanted = None
    if wanted:
        from supabase import AuthApiError

        try:
            return (await client.auth.admin.get_user_by_id(wanted)).user
        except AuthApiError as error:
            if error.status == 404:
                raise SetupError(f"There is no user {user}.") from None
            raise
    page = 1
    while users := await client.auth.admin.list_users(page=page, per_page=200):
        for candidate in users:
            if (candidate.email or "").lower() == user.lower():
                return candidate
        page += 1
    raise SetupError(f"There is no user with the address {user}.")
