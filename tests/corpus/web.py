"""Web pages and XML."""

from __future__ import annotations

import json

from tests import documents
from tests.corpus import Case

_SAYS = f"{documents.KNEE}. It is due once a year, and the claims office confirms the payment within ten working days."
_MORE = "<p>The insurer reviews a second medical opinion within a month, unless the contract says otherwise.</p>"
_MENU = (
    "<ul>"
    + "".join(f'<li><a href="https://example.com/section/{n}?from=menu">Section {n}</a></li>' for n in range(9))
    + "</ul>"
)


def page(body: str, head: str = "") -> bytes:
    return f"<!doctype html><html><head><title>Guide</title>{head}</head><body>{body}</body></html>".encode()


def notebook(cells: list[dict[str, object]], **more: object) -> bytes:
    return json.dumps(
        {"cells": cells, "metadata": {"language_info": {"name": "python"}}, "nbformat": 4} | more
    ).encode()


def computed() -> bytes:
    printed = {"output_type": "stream", "text": ["the answer is ", "forty-two\n"]}
    shown = {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo" * 50, "text/plain": "<Figure>"}}
    table = {"text/html": "<table><tr><th>Plan</th><th>Days</th></tr><tr><td>gold</td><td>30</td></tr></table>"}
    failed = {"output_type": "error", "ename": "ValueError", "evalue": "no such plan", "traceback": ["\x1b[31mx"]}
    outputs = [printed, shown, {"output_type": "execute_result", "data": table}, failed]
    return notebook([{"cell_type": "markdown", "source": ["# Plans\n", "Our plans."]},
                     {"cell_type": "code", "source": "best = 'gold'", "outputs": outputs}])  # fmt: skip


CASES = (
    Case(
        "form.html",
        lambda: page(f'<form action="x"><h1>Surgery</h1><p>{_SAYS}</p>{_MORE}</form>'),
        ("# Surgery", documents.KNEE),
    ),
    Case(
        "header.html",
        lambda: page(f"<header><h1>Surgery</h1></header><p>{_SAYS}</p>{_MORE}"),
        ("Surgery", documents.KNEE),
    ),
    Case(
        "menu-first.html",
        lambda: page(
            f"<nav>{_MENU}</nav><div>{_MENU}</div><main><h1>Surgery</h1><p>{_SAYS}</p>{_MORE}</main>"
            f"<footer>{_MENU}</footer>"
        ),
        ("# Surgery", documents.KNEE),
        absent=("Section 3", "example.com"),
    ),
    Case(
        "beside.html",
        lambda: page(
            f"<div><p>{_MORE * 2}</p></div><article><h1>Surgery</h1><p>{_SAYS}</p>{_MORE * 6}</article>"
            "<table><tr><td>Hotline</td><td>0800 5550</td></tr></table>"
        ),
        ("# Surgery", documents.KNEE, "second medical", "0800 5550"),
    ),
    Case("links.html", lambda: page(_MENU), ("Section 0", "Section 8"), absent=("https:",)),
    Case(
        "unclosed.html",
        lambda: page(f"<ul><li><p>{_SAYS}<li>{_MORE}<table><tr><td>a<td>b<tr><td>40 dollars"),
        (documents.KNEE, "40 dollars"),
    ),
    Case("title.html", lambda: page(f"<p>{_SAYS}</p>{_MORE}"), ("# Guide", documents.KNEE)),
    Case("utf16.html", lambda: page(f"<p>{_SAYS}</p>").decode().encode("utf-16"), (documents.KNEE,)),
    Case(
        "lies.html",
        lambda: page("<p>Größe, Übung und Prüfung</p>", '<meta charset="ascii">').decode().encode("cp1252"),
        ("Größe, Übung",),
    ),
    Case(
        "plans.ipynb",
        computed,
        ("# Plans", "best = 'gold'", "the answer is forty-two", "| gold | 30 |", "no such plan"),
        absent=("iVBORw0", "cell_type"),
    ),
    Case(
        "old.ipynb",
        lambda: json.dumps(
            {
                "worksheets": [
                    {
                        "cells": [
                            {"cell_type": "heading", "level": 2, "source": "Plans"},
                            {
                                "cell_type": "code",
                                "input": "gold",
                                "outputs": [{"output_type": "pyout", "text": ["thirty"]}],
                            },
                        ]
                    }
                ]
            }
        ).encode(),
        ("## Plans", "gold", "thirty"),
    ),
    Case("broken.ipynb", lambda: b'{"cells": [{"cell_type": "markdown",', sentence="damaged"),
    Case(
        "a.svg",
        lambda: (
            b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><title>Map</title><text x="1"><tspan>Knee'
            b'</tspan> clinic</text><path d="M0 0L9 9"/></svg>'
        ),
        ("Map", "Knee clinic"),
        absent=("M0",),
    ),
    Case(  # letters and blanks alone, as encoded bytes are too
        "speech.xml",
        lambda: ("<speech><p>" + "we shall go on to the end and " * 40 + "never surrender</p></speech>").encode(),
        ("never surrender",),
    ),
    Case(  # a pattern that looks back would not come to an end
        "nearly-bytes.xml",
        lambda: b"<data><a>" + b"QUJD" * 20_000 + b"!</a><b>The gate opens at nine.</b></data>",
        ("The gate opens at nine",),
    ),
    Case(
        "a.fb2",
        lambda: (
            '<?xml version="1.0" encoding="windows-1251"?><FictionBook><body><title><p>Глава</p></title><p>Первая '
            '<emphasis>строка</emphasis>.</p></body><binary id="c">aGVsbG8=</binary></FictionBook>'.encode("cp1251")
        ),
        ("Глава", "Первая строка."),
        absent=("aGVs", "<"),
    ),
    Case(
        "catalogue.xml",
        lambda: (
            b'<?xml version="1.0"?><!DOCTYPE list [<!ENTITY co "Acme">]><list><item code="x1"><name>Crutch &co;'
            b"</name><note>Rent &lt; 40 &nbsp;dollars</note></item></list>"
        ),
        ("Crutch Acme", "Rent < 40"),
        absent=("<name>",),
    ),
    Case(
        "attributes.xml",
        lambda: b'<?xml version="1.0"?><list><item name="Walking crutch" price="40 dollars"/></list>',
        ("Walking crutch", "40 dollars"),
    ),
    Case(
        "word.xml",
        lambda: (
            f'<?xml version="1.0"?><w:wordDocument xmlns:w="urn:x"><w:p>'
            f"<w:r><w:t>{documents.KNEE[:9]}</w:t></w:r><w:r><w:t>"
            f"{documents.KNEE[9:]}</w:t></w:r></w:p><w:binData>{'QUJD' * 200}</w:binData></w:wordDocument>".encode()
        ),
        (documents.KNEE,),
        absent=("QUJD",),
    ),
    Case(
        "malformed.xml",
        lambda: b'<?xml version="1.0"?><list><a>knee surgery<b>clinic</a></list>',
        ("knee surgery", "clinic"),
        absent=("<a>",),
    ),
    Case(
        "a.eps",
        lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n/Times findfont\n",
        sentence="PostScript or EPS.*PDF",
    ),
)
