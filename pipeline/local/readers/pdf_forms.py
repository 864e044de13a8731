"""What people see on a page of a PDF beside its content: filled-in forms, notes, and forms that are XML (XFA)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from pipeline.local.readers.pdf_pages import mostly_missing, page_words, words

_LABEL = re.compile(r"[^\W\d_]{3,}(?:[ _-][^\W\d_]+)*")
_YES = frozenset({"yes", "on", "1", "true"})
_OFF = frozenset({"", "off"})
_NOTES = frozenset(
    {"freetext", "text", "stamp", "highlight", "underline", "strikeout", "squiggly", "caret", "ink", "square", "circle",
     "line", "polygon", "polyline"}
)  # fmt: skip
_LARGEST_XFA = 8_000_000
_XFA_CODE = re.compile(r"<(script|calculate|event|toolTip|speak|bind|desc)\b[^>]*(?<!/)>.*?</\1\s*>", re.DOTALL)
_XFA_TEXT = re.compile(r"<(text|exData)\b[^>]*(?<!/)>(.*?)</\1\s*>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")


def beside(page: Any, shown: str) -> str:
    """The values of the fields and the notes on `page`, a line each, as far as they are not in `shown` already."""
    lines = [*_fields(page.form_fields or ()), *_notes(page.annotations or ())]
    if not lines:
        return ""
    have = page_words(shown).copy()
    return "\n".join(line for told, line in lines if mostly_missing(told, have))


def _fields(fields: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Each value, and the line that says it: with its label, where the form's author wrote one for people."""
    for one in fields:
        label = (one.alternate_name or "").strip() or _last_part(one.name or "")
        match one.field_type:
            case "checkbox" | "radiobutton":
                if not one.checked:
                    continue
                value = (one.export_value or "").strip()
                value = "" if value.casefold() in _YES else value
                told = value if value and one.field_type == "radiobutton" else label or value
                line = f"[x] {label}: {value}" if label and value else f"[x] {label or value}"
            case "pushbutton" | "signature":
                continue
            case _:
                value = told = ", ".join(one.selected_options) or (one.value or "").strip()
                if value.casefold() in _OFF:
                    continue
                line = f"{label}: {value}" if label else value
        yield told, line


def _last_part(name: str) -> str:
    part = re.sub(r"\[\d+\]$", "", name.rpartition(".")[2])
    return part.replace("_", " ") if _LABEL.fullmatch(part) else ""


def _notes(annotations: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for note in annotations:
        if note.subtype in _NOTES and (told := (note.contents or "").strip()):
            yield told, told


def xfa_text(packets: Iterable[Any]) -> str:
    """The texts and the values of an XFA form, a line each, in the order of its packets; empty where there are none."""
    lines: list[str] = []
    for packet in packets:
        content = (packet.content or "")[:_LARGEST_XFA]
        if packet.name == "template":
            content = _XFA_CODE.sub("", content)
            lines += (found[2] for found in _XFA_TEXT.finditer(content))
        elif packet.name == "datasets":
            lines += _TAG.sub("\n", content).split("\n")
    plain = (" ".join(html.unescape(_TAG.sub(" ", line)).split()) for line in lines)
    return "\n".join(dict.fromkeys(line for line in plain if words(line)))
