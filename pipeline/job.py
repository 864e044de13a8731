"""The vocabulary of the pipeline: frozen values that travel from the claim to the publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class State(StrEnum):
    """The five states of a job, as in `pipeline.job_states`; a retry is AVAILABLE with a later `available_at`."""

    AVAILABLE = "available"
    RUNNING = "running"
    COMPLETED = "completed"
    DEAD = "dead"
    CANCELLED = "cancelled"


class Stage(StrEnum):
    """How far a running job is."""

    FETCH = "fetch"
    PARSE = "parse"
    CHUNK = "chunk"
    EMBED = "embed"
    PUBLISH = "publish"


class Job(NamedTuple):
    """A claimed job: one version of one stored object, and the attempt that fences every write about it."""

    id: int
    attempt: int
    document_id: str
    """A UUID; here it is only told to the log."""
    bucket_id: str
    name: str
    """The object's full name, `<owner>/…`; never a local path."""
    size: int | None
    """Bytes, as Storage measured them; None where the platform did not say."""
    etag: str | None


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """The bytes of one version on local disk, in a private temporary folder."""

    path: Path
    size: int
    sha256: bytes
    """32 bytes, computed here from the bytes."""
    media_type: str
    """Sniffed from the bytes; what the client declared is ignored."""
    extension: str
    """Lower case with the dot, chosen from media_type; the object's own name is only a hint."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page as Markdown. `number` starts at 1; None for formats without pages."""

    number: int | None
    markdown: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A file as Markdown pages, in reading order."""

    pages: Sequence[Page]
    failed_pages: dict[int, str] = field(default_factory=dict)
    """Page number to reason, for pages that the parser could not read."""
    credits: float | None = None
    """What the provider billed, in its own unit, where it said so."""

    @property
    def page_count(self) -> int:
        """How many pages were looked at; one of which only a part could be read is one."""
        numbered = {page.number for page in self.pages if page.number is not None}
        return len(self.pages) + len(self.failed_pages.keys() - numbered)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document."""

    ordinal: int
    """Place in the document, from 0."""
    page: int | None
    """The page on which the passage begins, from 1; None for formats without pages."""
    heading: str | None
    """The heading path, outermost first, joined by ' > '."""
    content: str

    @property
    def embedding_input(self) -> str:
        """The exact text that is embedded: the heading path before the passage, and no page number."""
        return f"{self.heading}\n\n{self.content}" if self.heading else self.content


@dataclass(frozen=True, slots=True)
class Space:
    """An embedding space: vectors are comparable only within one."""

    model: str
    dimensions: int
    input_format: str = "heading-content-1"

    @property
    def name(self) -> str:
        return (
            f"{self.model}-{self.dimensions}"
            if self.input_format == "heading-content-1"
            else (f"{self.model}-{self.dimensions}-{self.input_format}")
        )
