"""Every setting of the listener, once. All are environment variables with the prefix UPLOAD_PIPELINE_."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import SetupError

PREFIX = "UPLOAD_PIPELINE_"
LLAMAPARSE_URLS = {"us": "https://api.cloud.llamaindex.ai", "eu": "https://api.cloud.eu.llamaindex.ai"}


class Settings(BaseSettings):
    """What a listener and the operators' commands need to know; secrets never show in its repr."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore")

    environment: Literal["development", "staging", "production"] = Field(
        "development", description="a name for this installation"
    )
    supabase_url: str = Field("", description="https://<ref>.supabase.co, or the URL that `pipeline dev` prints")
    supabase_anon_key: SecretStr = Field(SecretStr(""), description="the anon or sb_publishable_ key")
    supabase_service_role_key: SecretStr = Field(SecretStr(""), description="the service_role or sb_secret_ key")
    database_url: SecretStr = Field(SecretStr(""), description="Postgres as the role pipeline_worker, port 5432")
    migration_database_url: SecretStr = Field(
        SecretStr(""),
        description="Postgres as the role postgres; only `migrate`, `check` and operators' commands use it",
    )
    worker_password: SecretStr = Field(
        SecretStr(""), description="the password that `pipeline migrate` gives pipeline_worker"
    )
    jwt_secret: SecretStr = Field(SecretStr(""), description="the project's HS256 secret, where it has one")

    parser: Literal["local", "llamaparse"] = Field("local", description="who reads the files")
    llamaparse_api_key: SecretStr = Field(SecretStr(""), description="the key of the parser llamaparse")
    llamaparse_region: Literal["us", "eu"] = Field("us", description="where it works; a key belongs to one region")
    llamaparse_base_url: str = Field("", description="another address than the region's")
    llamaparse_tier: Literal["fast", "cost_effective", "agentic", "agentic_plus"] = Field(
        "cost_effective", description="how thoroughly it reads, and what a page costs"
    )
    llamaparse_version: str = Field("latest", description="the version of its parser; a date pins it")
    llamaparse_timeout_seconds: float = Field(1800, gt=0, description="the deadline of one parse at the provider")
    llamaparse_webhook_url: str = Field(
        "", description="where LlamaParse reaches a listener's HTTP port: https://<your host>/webhooks/llamaparse"
    )
    llamaparse_webhook_secret: SecretStr = Field(
        SecretStr(""), description="what LlamaParse signs webhooks with; the HTTP port is open only where it is set"
    )
    fallback_parser: Literal["none", "local"] = Field(
        "none", description="who reads the files while llamaparse is down or refuses its key"
    )
    ocr: bool = Field(False, description="let the local parser read scanned pages and pictures (needs tessdata)")
    ocr_languages: str = Field(
        "eng",
        pattern=r"^[A-Za-z0-9_]+(\+[A-Za-z0-9_]+)*$",
        description="what scanned pages are written in, in Tesseract's codes with a plus between them: eng+deu",
    )
    tessdata_path: Path | None = Field(None, description="the folder with the languages that OCR knows")

    embedder: Literal["local", "openai"] = Field("local", description="who makes the vectors")
    openai_api_key: SecretStr = Field(SecretStr(""), description="the key of the embedder openai")
    openai_base_url: str = Field("https://api.openai.com/v1", description="any service that speaks the same API")
    openai_model: str = Field("text-embedding-3-small", description="the embedding model")
    openai_dimensions: int = Field(1536, ge=1, le=4000, description="the length of its vectors")

    chunk_tokens: int = Field(200, ge=16, le=8192, description="the longest passage, in the embedding model's tokens")
    chunk_overlap: float = Field(
        0.15, ge=0, lt=0.9, description="the part of a passage repeated from the one before it"
    )

    concurrency: int = Field(4, ge=1, le=256, description="jobs at once in this listener")
    lease_seconds: float = Field(60, ge=1, description="how long a silent listener keeps its jobs")
    poll_seconds: float = Field(5, gt=0, description="how often to look for jobs when no notification comes")
    drain_seconds: float = Field(30, ge=0, description="how long SIGTERM waits for running jobs before releasing them")
    job_timeout_seconds: float = Field(
        3600, gt=0, description="wall time of one job's try; over it, the try counts as failed"
    )
    max_file_size_bytes: int = Field(26_214_400, gt=0, description="a larger file is refused")
    parse_timeout_seconds: float = Field(120, gt=0, description="wall time of the local parser's child process")
    parse_memory_bytes: int = Field(2_000_000_000, gt=0, description="memory of the local parser's child process")
    max_pages: int = Field(5000, gt=0, description="a longer document is refused")
    max_passages: int = Field(100_000, gt=0, description="passages that one file may fall into: each is paid for")
    max_text_bytes: int = Field(50_000_000, gt=0, description="text that one file may turn into")

    http_host: str = Field("127.0.0.1", description="the address of its HTTP port")
    http_port: int = Field(8090, ge=0, le=65535, description="its HTTP port; 0 takes a free one")

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="the least that is logged")

    @property
    def llamaparse_url(self) -> str:
        """The address of LlamaParse."""
        return self.llamaparse_base_url or LLAMAPARSE_URLS[self.llamaparse_region]


def contradictions(settings: Settings) -> list[str]:
    """Settings that cannot hold together, each pair with both names: one of the two would never have an effect."""
    used = {settings.parser, settings.fallback_parser}
    parses = {"local": "parse_timeout_seconds", "llamaparse": "llamaparse_timeout_seconds"}
    whole = settings.job_timeout_seconds
    return [
        f"{PREFIX}{name.upper()} ({limit:g}) must be less than {PREFIX}JOB_TIMEOUT_SECONDS ({whole:g}): "
        "the try of a file would end before its parse may."
        for parser, name in parses.items()
        if parser in used and (limit := getattr(settings, name)) >= whole
    ]


def known_variables() -> list[str]:
    """The names of all settings as environment variables."""
    return [PREFIX + name.upper() for name in Settings.model_fields]


def load(**overrides: object) -> Settings:
    """Read the environment and `.env`.

    Raises SetupError naming each wrong or unknown variable, with the nearest right name, and those that contradict each
    other.
    """
    known = known_variables()
    problems = []
    for name in sorted({*os.environ, *(key for key in dotenv_values(".env") if key)}):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.5)
            problems.append(f"{name} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        for fault in error.errors():
            place = PREFIX + ".".join(str(part) for part in fault["loc"]).upper()
            problems.append(f"{place}: {fault['msg']}")
        raise SetupError("\n".join(problems)) from None
    problems += contradictions(settings)
    if problems:
        raise SetupError("\n".join(problems))
    return settings
