"""The project under test: an embedded one that the suite starts, or any throw-away one that the environment names.

A test takes the fixture `project` and knows nothing else of it: it works through HTTP with the project's keys, and in
SQL as `postgres`, who is no superuser, and as the listener's role. So it faces the embedded Supabase, `supabase start`,
a self-hosted project and a hosted one alike. What cannot be had there (the superuser, the bytes on disk, the private
signing key) is had from the embedded project alone, by a test that is marked `embedded` with the reason.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import httpx
import jwt
import pytest

from pipeline.embedded import EmbeddedSupabase
from pipeline.errors import SetupError
from pipeline.settings import Settings

WORKER_PASSWORD = "worker-password-of-the-tests"
SPACE = "all-MiniLM-L6-v2-int8-384"
"""The space of the local model, which the suites' listeners write."""
MADE_BY_US = {"made_by": "the pipeline's test suites"}
"""User metadata of whoever has no address that tells it."""

NAMED = pytest.StashKey["Project"]()
"""Where pytest's configuration keeps the project that the environment names."""


class Project:
    """A project that the suite started."""

    sign_up_confirms = True
    """Whether a sign-up is a sign-in, since no mail has to be answered."""
    anonymous_sign_ins = True
    worker_signs_in = True
    """Whether listeners sign in as pipeline_worker, and not as postgres through a pooler."""

    def __init__(self, supabase: EmbeddedSupabase) -> None:
        self.supabase = supabase
        self.api_url = supabase.api_url
        self.anon_key = supabase.anon_key
        self.service_role_key = supabase.service_role_key
        self.jwt_secret = supabase.jwt_secret
        self.db_url = supabase.db_url
        self.worker_password = WORKER_PASSWORD
        self.worker_url = supabase.url_as("pipeline_worker", WORKER_PASSWORD)

    def __getattr__(self, name: str) -> Any:
        """Of the embedded project alone: for tests that are marked so, and for those that start one of their own."""
        return getattr(self.supabase, name)

    def url_as(self, role: str, password: str | None = None) -> str:
        return self.supabase.url_as(role, password)

    def sign(self, claims: dict[str, Any]) -> str:
        """A token as the project's Auth would sign it."""
        return self.supabase.keys.sign(claims)

    def needs(self, capability: str) -> None:
        """Skips a test that wants what not every project lets one do: one of the attributes above."""
        if not getattr(self, capability):
            pytest.skip(_CLOSED[capability])


_CLOSED = {
    "sign_up_confirms": "sign-ups have to answer a mail here: switch 'Confirm email' off (Authentication, Email), or "
    "set auth.email.enable_confirmations = false",
    "worker_signs_in": "listeners sign in as postgres here: try a direct connection as pipeline_worker",
    "anonymous_sign_ins": "anonymous sign-ins are off here: switch them on (Authentication), or set "
    "auth.enable_anonymous_sign_ins = true",
}


class NamedProject(Project):
    """One that was there before, named by UPLOAD_PIPELINE_ variables. Raises SetupError naming what is missing."""

    def __init__(self, settings: Settings) -> None:
        values = {
            "UPLOAD_PIPELINE_SUPABASE_URL": settings.supabase_url,
            "UPLOAD_PIPELINE_SUPABASE_ANON_KEY": settings.supabase_anon_key.get_secret_value(),
            "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY": settings.supabase_service_role_key.get_secret_value(),
            "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL": settings.migration_database_url.get_secret_value(),
            "UPLOAD_PIPELINE_DATABASE_URL": settings.database_url.get_secret_value(),
        }
        if missing := [name for name, value in values.items() if not value]:
            raise SetupError(f"Set {', '.join(missing)}: which project is to be tested? See docs/testing.md.")
        url, self.anon_key, self.service_role_key, self.db_url, self.worker_url = values.values()
        self.api_url = url.rstrip("/")
        self.jwt_secret = settings.jwt_secret.get_secret_value()
        self.worker_password = unquote(urlsplit(self.worker_url).password or "")
        self.worker_signs_in = urlsplit(self.worker_url).username == "pipeline_worker"
        self._ask_auth()

    def _ask_auth(self) -> None:
        try:
            answer = httpx.get(f"{self.api_url}/auth/v1/settings", headers={"apikey": self.anon_key}, timeout=30)
            told = answer.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as error:
            raise SetupError(
                f"{self.api_url} does not say how users sign in ({type(error).__name__}). "
                "Check UPLOAD_PIPELINE_SUPABASE_URL and UPLOAD_PIPELINE_SUPABASE_ANON_KEY."
            ) from None
        self.sign_up_confirms = bool(told.get("mailer_autoconfirm")) and not told.get("disable_signup")
        self.anonymous_sign_ins = bool(told.get("external", {}).get("anonymous_users"))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"only the embedded project has `{name}`: ask the project through HTTP or SQL instead, or mark the test "
            '`@pytest.mark.embedded("why it can be had nowhere else")`'
        )

    def url_as(self, role: str, password: str | None = None) -> str:
        """As `postgres` or `pipeline_worker`, with another password where one is given; nobody else's is known."""
        known = {"postgres": self.db_url, "pipeline_worker": self.worker_url}
        if role not in known:
            raise AttributeError(f"the password of {role} is not known here: mark the test `embedded` with the reason")
        if password is None:
            return known[role]
        parts = urlsplit(known[role])
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{place}"))

    def sign(self, claims: dict[str, Any]) -> str:
        if not self.jwt_secret:
            pytest.skip("the project's signing key is not known here (UPLOAD_PIPELINE_JWT_SECRET, where it has one)")
        return jwt.encode({"iat": int(time.time())} | claims, self.jwt_secret, "HS256")
