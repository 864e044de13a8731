"""Replays recorded requests to Storage and compares the answers, whichever project they are sent to.

`data/storage_answers.jsonl` was recorded from Supabase Storage 1.11.2 with the file backend, in front of this project's
schema, both users without a limit of uploads: one request with its answer a line, in order, since later requests see
what earlier ones left.

    label, method, path     `path` below /storage/v1, percent-encoded as it was sent
    as_                     `u` and `v` two users, `anon` and `srv` the keys, `bad` a malformed token, null without one
    no_key                  no `apikey` was sent either
    headers, json, body     `body` is escaped; {before, repeat, times, after} is a long run of one character
    answer                  status, the headers that matter, and the body (JSON with sorted keys, else text)
    seconds                 a wait instead of a request

What differs from run to run is a placeholder: in a request, `{U}` and `{V}` (the users' ids), `{ETAG}`, `{SIGNED}`,
`{UPL}` and `{LOC}` (what an earlier answer gave); in an answer also `<uuid>`, `<JWT>`, `<cursor>`, `<date>`, `<tsZ>`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

DATA = Path(__file__).parent / "data" / "storage_answers.jsonl"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_TIME = re.compile(r'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(Z|[+-]\d\d:\d\d)?"')
_CURSOR = re.compile(r'"nextCursor": ?"[^"]*"')
_VARYING = {"last-modified": "<date>", "expires": "<date>", "location": "<location>", "upload-metadata": "<metadata>"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, with placeholders where runs differ."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class Replay:
    """One run. `users` maps `u` and `v` to their ids, `tokens` each name in `as_` to its bearer token."""

    url: str
    api_key: str
    users: dict[str, str]
    tokens: dict[str, str]
    _known: dict[str, str] = field(default_factory=dict)

    async def send(self, row: dict[str, Any]) -> Answer:
        """The answer to one row's request; a wait is waited for by the caller."""
        status, headers, body = await asyncio.to_thread(self._exchange, row)
        self._learn(row, headers, body)
        return Answer(status, self._normal_headers(headers), self._normal_body(headers, body))

    @staticmethod
    def expected(row: dict[str, Any]) -> Answer:
        """The recorded answer."""
        recorded = row["answer"]
        headers = {name: _media_type(value) for name, value in recorded["headers"].items()}
        return Answer(recorded["status"], headers, _CURSOR.sub('"nextCursor": "<cursor>"', recorded["body"]))

    def _exchange(self, row: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=60)
        # not a client's usual way: dots in a path and a wrong Content-Length have to arrive as they were recorded
        connection.putrequest(row["method"], parts.path + self._path(row["path"]), skip_accept_encoding=True)
        body = _body(row)
        sent = {name for name, _ in row["headers"]}
        for name, value in self._credentials(row) + row["headers"]:
            connection.putheader(name, self._fill(_metadata(value, self._fill) if isinstance(value, dict) else value))
        if "json" in row and "content-type" not in sent:
            connection.putheader("content-type", "application/json")
        if body is not None and "content-length" not in sent:
            body = self._fill(body)
            connection.putheader("content-length", str(len(body.encode())))
        connection.endheaders()
        if body is not None:
            # a server may refuse a large body before it has read it, and answer while we still send
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(body.encode())
        response = connection.getresponse()
        read = response.read()
        connection.close()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, read

    def _credentials(self, row: dict[str, Any]) -> list[list[str]]:
        if row.get("no_key"):
            return []
        credentials = [["apikey", self.api_key]]
        if row["as_"] is not None:
            credentials.append(["authorization", f"Bearer {self.tokens[row['as_']]}"])
        return credentials

    def _path(self, path: str) -> str:
        return quote(self._fill(path), safe="/%?&=+:;,@!$'()*[]~")

    def _fill(self, text: str) -> str:
        for name, value in {"U": self.users["u"], "V": self.users["v"], **self._known}.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _learn(self, row: dict[str, Any], headers: dict[str, str], body: bytes) -> None:
        """Keep what later rows refer to."""
        if row["label"].startswith("GET authenticated") and "ETAG" not in self._known:
            self._known["ETAG"] = headers.get("etag", "")
        elif row["method"] == "POST" and row["path"].startswith("/object/sign/") and b'"signedURL"' in body[:20]:
            self._known["SIGNED"] = json.loads(body)["signedURL"]
            self._known["SIGNEDX"] = self._known["SIGNED"].replace("a.md?", "b.md?")
        elif row["method"] == "POST" and row["path"].startswith("/object/upload/sign/") and b'"url"' in body:
            self._known["UPL"] = json.loads(body)["url"]
            self._known["UPLX"] = self._known["UPL"].replace("su.md?", "sv.md?")
        elif "location" in headers:
            self._known[_NAMES.get(row["label"], "")] = urlsplit(headers["location"]).path.removeprefix("/storage/v1")

    def _normal_headers(self, headers: dict[str, str]) -> dict[str, str]:
        return {name: _VARYING.get(name, _media_type(value)) for name, value in headers.items()}

    def _normal_body(self, headers: dict[str, str], body: bytes) -> str:
        text = body.decode(errors="replace")
        if _media_type(headers.get("content-type", "")) == "application/json" and text:
            text = json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False)
        for name, value in (("U", self.users["u"]), ("V", self.users["v"])):
            text = text.replace(value, "{" + name + "}")
        text = _TIME.sub(
            lambda match: '"<tsZ>"' if match[1] else '"<ts>"', _JWT.sub("<JWT>", _UUID.sub("<uuid>", text))
        )
        return _CURSOR.sub('"nextCursor": "<cursor>"', text)


_NAMES = {
    "tus create": "LOC",
    "tus create existing upsert": "LOC2",
    "tus create with metadata": "LOC3",
    "tus create deferred": "LOC4",
    "tus create to delete": "LOC5",
}


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in DATA.read_text().splitlines()]


def _body(row: dict[str, Any]) -> str | None:
    if "json" in row:
        return json.dumps(row["json"])
    body = row.get("body")
    if body is None:
        return None
    if isinstance(body, str):
        return _unescape(body)
    return _unescape(body["before"]) + body["repeat"] * body["times"] + _unescape(body["after"])


def _unescape(text: str) -> str:
    return text.replace("\\r", "\r").replace("\\n", "\n")


def _metadata(pairs: dict[str, str], fill: Any) -> str:
    """The header Upload-Metadata as TUS encodes it."""
    return ",".join(f"{key} {base64.b64encode(fill(value).encode()).decode()}" for key, value in pairs.items())


def _media_type(value: str) -> str:
    """JSON is UTF-8 with and without a charset."""
    return "application/json" if value.startswith("application/json") else value
