"""E-mail: what people search a message by (its header fields, decoded), its body, and its attachments.

`.eml`, saved web pages (`.mhtml`) and mailboxes (`.mbox`); `outlook` makes the same Message of a `.msg`. An attachment
is read by its own parser, a message inside a message too, or else it is named with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.errors import MessageError
from email.header import decode_header
from email.message import Message as Part
from email.parser import BytesParser
from email.policy import compat32
from email.utils import collapse_rfc2231_value

from pipeline.errors import Permanent
from pipeline.files import kinds
from pipeline.files.text import clean, decode, words
from pipeline.local.readers.html import from_html
from pipeline.local.readers.reader import TOO_DEEP, Options, Text

MAX_DEPTH = 8  # messages in messages
MAX_ATTACHMENTS = 500  # of one file, over all depths
_MAX_PARTS = 10_000
_MAX_FIELD = 20_000
_FIELDS = (
    "From",
    "Sender",
    "To",
    "Cc",
    "Bcc",
    "Reply-To",
    "Date",
    "Newsgroups",
    "Organization",
    "Keywords",
    "Comments",
)
_BOX = re.compile(rb"^From \S{1,200}[ ]+\w{3} \w{3} +\d{1,2} [\d:]{5,8}[^\n]{0,60}\n", re.MULTILINE)
# What belongs to a body's looks or signature, and says nothing itself.
_SILENT = {
    "text/css", "text/javascript", "application/javascript", "application/x-javascript", "application/pgp-signature",
    "application/pkcs7-signature", "application/x-pkcs7-signature", "text/x-amp-html",
}  # fmt: skip
_SEALED = {"application/pkcs7-mime", "application/x-pkcs7-mime", "application/pgp-encrypted"}
_HEADING = re.compile(r"^(#{1,6})(?=[ \t])", re.MULTILINE)


@dataclass(slots=True)
class Message:
    """A message of any format."""

    subject: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""
    """Markdown."""
    attachments: list[tuple[str, bytes | Message]] = field(default_factory=list)


Attach = Callable[[bytes, str], "str | Sequence[Message]"]
"""An attachment, by its bytes and name, as Markdown or as messages. Raises Permanent where it cannot be read."""


def write(messages: Sequence[Message], options: Options, text: Text, attach: Attach) -> None:
    """Each message is a page without a number. Raises Permanent where there is only a seal."""
    writer = _Writer(options, text, attach)
    for message in messages:
        text.page(None, writer.written(message, 1))


class _Writer:
    """Writes messages as Markdown, with one bound on attachments for a whole file."""

    def __init__(self, options: Options, text: Text, attach: Attach) -> None:
        self.options, self.text, self.attach = options, text, attach
        self.left = MAX_ATTACHMENTS

    def written(self, message: Message, depth: int) -> str:
        parts = [f"{_marks(depth)} {message.subject}"] if message.subject else []
        parts += ["  \n".join(f"{name}: {value}" for name, value in message.fields), message.body]
        parts += [self.attachment(name, content, depth) for name, content in message.attachments]
        return "\n\n".join(part for part in parts if part.strip())

    def attachment(self, name: str, content: bytes | Message, depth: int) -> str:
        try:
            self.left -= 1
            if self.left < 0:
                raise Permanent("The message brings more attachments than are read here.")
            if depth >= MAX_DEPTH:
                raise Permanent("It lies too deep inside other messages.")
            if self.text.elapsed() > self.options.seconds / 2:
                raise Permanent("The time that one file may take was too short for it.")
            read = [content] if isinstance(content, Message) else self.attach(content, name)
        except Permanent as problem:
            return f"Attachment: {name} (not read: {problem.message.replace(f'{kinds.SUPPORTED}.', '').strip()})"
        title = f"{_marks(depth + 1)} Attachment: {name}"
        if isinstance(read, str):
            return f"{title}\n\n{_HEADING.sub(lambda mark: _marks(depth + 1 + len(mark[1])), read)}"
        return "\n\n".join([title, *(self.written(message, depth + 2) for message in read)])


def _marks(level: int) -> str:
    return "#" * min(level, 6)


def parsed_box(data: bytes) -> list[Message]:
    """The messages of a mailbox."""
    starts = [found.end() for found in _BOX.finditer(data)]
    ends = [*[found.start() for found in _BOX.finditer(data)][1:], len(data)]
    return [parsed(data[start:end]) for start, end in zip(starts, ends, strict=True)]


def parsed(data: bytes, *, saved_page: bool = False) -> Message:
    """A message, or a page that a browser saved. Raises Permanent for what is nested too deep, or sealed."""
    try:
        root = BytesParser(policy=compat32).parsebytes(data.lstrip(b"\xef\xbb\xbf \t\r\n"))
        return _Opener(saved_page).message(root, 0)
    except RecursionError:
        raise Permanent(TOO_DEEP, detail="parts in parts") from None


class _Opener:
    def __init__(self, saved_page: bool) -> None:
        self.saved_page, self.parts = saved_page, 0

    def message(self, root: Part, depth: int) -> Message:
        head: dict[str, list[str]] = {}
        for name, raw in root.raw_items():
            head.setdefault(name.lower(), []).append(_value(raw))
        subject = head.get("subject", [""])[0]
        if self.saved_page:
            address = (head.get("snapshot-content-location") or head.get("content-location") or [""])[0]
            found = Message(subject, [("Address", address)] if address else [])
        else:
            found = Message(subject, [(name, value) for name in _FIELDS for value in head.get(name.lower(), ())[:20]])
        found.fields = [(name, value) for name, value in found.fields if value]
        found.body, found.attachments = self.opened(root, depth)
        if not found.body and not found.attachments and root.get_content_type() in _SEALED:
            found.body = kinds.SIGNED
            if not depth:
                raise Permanent(kinds.SIGNED)
        return found

    def opened(self, part: Part, depth: int) -> tuple[str, list[tuple[str, bytes | Message]]]:
        """The body and the attachments of `part`."""
        self.parts += 1
        if self.parts > _MAX_PARTS or depth > 100:
            raise Permanent(TOO_DEEP, detail=f"{self.parts} parts")
        kind, inside = part.get_content_type(), part.get_payload()
        if isinstance(inside, list):
            children = [child for child in inside if isinstance(child, Part)]
            if kind.startswith("message/") and kind != "message/delivery-status":
                return "", [(_value(c.get("Subject")) or "message", self.message(c, depth + 1)) for c in children]
            return self.together(kind, children, depth)
        if kind in _SILENT or kind in _SEALED:
            return "", []
        name, content = _name(part), _payload(part)
        listed = part.get_content_disposition() == "attachment" or (name and not self.saved_page)
        if kind in ("text/html", "application/xhtml+xml") and not listed:
            return from_html(decode(content, html=True, declared=part.get_content_charset())), []
        if part.get_content_maintype() in ("text", "message") and not listed:
            return decode(content, declared=part.get_content_charset()).replace("\r\n", "\n").strip("\n"), []
        if not content.strip() or self.saved_page:  # a saved page's pictures are no more than a page's pictures
            return "", []
        return "", [(name or f"unnamed.{kind.rpartition('/')[2][:20]}", content)]

    def together(self, kind: str, children: list[Part], depth: int) -> tuple[str, list[tuple[str, bytes | Message]]]:
        opened = [self.opened(child, depth + 1) for child in children]
        attachments = [one for _, brought in opened for one in brought]
        bodies = [body for body, _ in opened if body.strip()]
        if kind == "multipart/alternative" and bodies:
            # The last one is the richest; an earlier one that says more is the message all the same.
            most = max(words(body) for body in bodies)
            return next(body for body in reversed(bodies) if words(body) >= most * 0.8), attachments
        if kind == "message/delivery-status":
            bodies = ["\n".join(f"{name}: {_value(value)}" for name, value in child.items()) for child in children]
        return "\n\n".join(bodies), attachments


def _payload(part: Part) -> bytes:
    try:
        content = part.get_payload(decode=True)
    except (ValueError, LookupError, AssertionError):
        content = part.get_payload()
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "surrogateescape")


def _name(part: Part) -> str:
    try:
        raw = part.get_param("filename", None, "content-disposition") or part.get_param("name")
        return _value(collapse_rfc2231_value(raw))[:200] if raw else ""
    except (ValueError, LookupError, TypeError):
        return "unnamed"


def _value(raw: object) -> str:
    """A header field as text on one line: its encoded words and raw bytes decoded."""
    if raw is None:
        return ""
    # Raw bytes are held as halves of surrogate pairs.
    text = decode(str(raw)[:_MAX_FIELD].encode("utf-8", "surrogateescape"))
    try:
        pieces = [piece if isinstance(piece, str) else _word(piece, charset) for piece, charset in decode_header(text)]
    except (ValueError, LookupError, MessageError):  # an encoded word that is cut off, say
        pieces = [text]
    return " ".join(clean("".join(pieces)).split())


def _word(piece: bytes, charset: str | None) -> str:
    return decode(piece, declared=charset) if charset else piece.decode("raw-unicode-escape", "replace")
