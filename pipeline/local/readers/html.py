"""A web page as Markdown: its main text first, then what else is prose. Menus and targets of links are left out.

The converter gets the page's own source, cut at its elements. They are found in one pass over the tags, which takes
time by the length of a page, however it is nested. A page without prose to tell from its menus is kept whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape

from html_to_markdown import _html_to_markdown as html2md

from pipeline.files.text import clean, has_words

_OPTIONS = html2md.ConversionOptions(
    extract_metadata=False,
    skip_images=True,
    autolinks=False,
    compact_tables=True,
    br_in_tables=False,
    # Its clean-up removes forms, which are whole pages with some servers, and headers with the title in them.
    preprocessing=html2md.PreprocessingOptions(enabled=False),
    strip_tags=["a"],
    exclude_selectors=["iframe", "object", "embed", "svg", "template", "noscript", "script", "style", "title"],
    max_depth=500,
)

_TAG = re.compile(r"<!--|</?[a-zA-Z][^<>]{0,20000}>")
_NAME = re.compile(r"</?([a-zA-Z][a-zA-Z0-9:-]{0,40})")
_MARK = re.compile(
    r"\b(?:class|id|role|itemprop)\s*=\s*(?:\"([^\"]{0,500})\"|'([^']{0,500})'|([^\s>]{1,100}))", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^<>]{0,200}>([^<]{1,1000})", re.IGNORECASE)
_RAW = frozenset(["script", "style", "textarea", "title", "noscript", "template", "svg", "iframe", "object"])
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_VOID = frozenset(("hr",))
# An element whose end tag may be left out, and what ends it: its like, or a part that holds it.
_CLOSED_BY_LIKE = {
    "li": ("li", "ul", "ol"), "dt": ("dt", "dd", "dl"), "dd": ("dt", "dd", "dl"), "tr": ("tr", "table"),
    "td": ("td", "th", "tr"), "th": ("td", "th", "tr"),
}  # fmt: skip
_DATA = frozenset(("td", "th", "dd", "dt"))
_MENU = re.compile(
    r"\b(?:nav|navbar|navigation|menu\w*|breadcrumb\w*|cookie\w*|consent|share\w*|sharing|social\w*|sidebar|footer|related\w*|"
    r"recommend\w*|newsletter|subscribe|signup|promo\w*|sponsor\w*|advert\w*|banner|pagination|pager|toolbar|search|skip\w*|"
    r"popular|trending|widget|tags|contentinfo|masthead|login)\b"
)
_MAIN = re.compile(r"\b(?:main|articlebody|article-body|post-content|entry-content|mw-content-text)\b")
_SENTENCE = 60
"""Characters of a run of text that is more than a label."""
_LEAST_PROSE = 120
"""Characters; a page with less is kept whole."""


@dataclass(slots=True, eq=False)
class _Node:
    name: str
    mark: str
    start: int
    end: int = 0
    text: int = 0
    link: int = 0
    prose: int = 0
    children: list[_Node] = field(default_factory=list)


def from_html(source: str) -> str:
    """The Markdown of a page or of a piece of HTML."""
    root = _tree(source)
    whole = _converted(source) if root.prose < _LEAST_PROSE else _parted(source, root)
    found = _TITLE.search(source[:100_000])
    title = " ".join(clean(unescape(found[1])).split()) if found else ""
    if not has_words(title) or " ".join(title.split(" | ")[0].split(" - ")[0].split()).lower() in whole.lower():
        return whole
    return f"# {title}\n\n{whole}"


def _converted(source: str) -> str:
    return html2md.convert(source.encode("utf-8", "replace").decode(), _OPTIONS).content or ""


def _parted(source: str, root: _Node) -> str:
    main = _main(root)
    inside = _converted(_without(source, main.start, main.end, list(_menus(main))))
    outside = [(main.start, main.end), *_menus(root, main, rest=True)]
    return "\n\n".join(
        part for part in (inside, _converted(_without(source, root.start, root.end, outside))) if part.strip()
    )


def _without(source: str, start: int, end: int, cuts: list[tuple[int, int]]) -> str:
    parts, at = [], start
    for first, last in sorted(cuts):
        if first >= at:
            parts.append(source[at:first])
        at = max(at, last)
    return "".join([*parts, source[at:end]])


def _main(root: _Node) -> _Node:
    """The smallest element that holds most of the prose, or what the page itself calls its main part."""
    main, named = root, False
    while True:
        choices = main.children
        declared = (
            [c for c in _within(main, 6) if c.name in ("main", "article") or _MAIN.search(c.mark)] if not named else []
        )
        best = max(declared, key=lambda c: c.prose, default=None)
        if best is not None and best.prose >= 0.5 * root.prose:
            main, named = best, True
            continue
        best = max(choices, key=lambda c: c.prose, default=None)
        if best is None or best.prose < 0.85 * main.prose or best.name in ("p", "td", "tr", "li", "pre"):
            return main
        main = best


def _within(node: _Node, depth: int) -> list[_Node]:
    found, level = [], [node]
    for _ in range(depth):
        level = [child for one in level for child in one.children][:2000]
        found += level
    return found


def _menus(node: _Node, main: _Node | None = None, *, rest: bool = False) -> list[tuple[int, int]]:
    """What is cut out of `node`: links for going elsewhere; outside of the main text (`rest`), all that is no prose."""
    found, todo = [], list(node.children)
    while todo:
        child = todo.pop()
        if child is main:
            continue
        if (_is_menu(child) or (rest and child.prose == 0)) and not _holds(child, main):
            found.append((child.start, child.end))
            continue
        todo += child.children
    return found


def _holds(node: _Node, main: _Node | None) -> bool:
    return main is not None and node.start <= main.start and main.end <= node.end


def _is_menu(node: _Node) -> bool:
    if not node.text:
        return False
    links = node.link / node.text
    if node.name == "nav" or (node.mark and "navigation" in node.mark):
        return links > 0.3 or node.prose == 0
    if node.prose and links < 0.5:
        return False
    if node.name in ("aside", "footer", "form") or (node.mark and _MENU.search(node.mark)):
        return links > 0.3 or node.prose == 0
    return links > 0.8 and node.name in ("ul", "ol", "div", "section", "table", "dl", "li") and node.prose == 0


def _tree(source: str) -> _Node:
    """The block elements with how much text each has, how much of it in links, and how much in whole sentences."""
    root = _Node("", "", 0, len(source))
    stack, opened = [root], {}
    run = linked = link_depth = 0
    at, length = 0, len(source)

    def flush() -> None:
        nonlocal run, linked
        if run:
            node = stack[-1]
            node.text += run
            node.link += linked
            if linked < 0.4 * run and (run >= _SENTENCE or node.name in _DATA):
                node.prose += run - linked
        run = linked = 0

    def close(end: int) -> None:
        node = stack.pop()
        opened[node.name] -= 1
        node.end = end
        above = stack[-1]
        above.text, above.link, above.prose = above.text + node.text, above.link + node.link, above.prose + node.prose

    while at < length:
        tag = _TAG.search(source, at)
        size = len(source[at : tag.start() if tag else length].strip())
        run += size
        linked += size if link_depth else 0
        if tag is None:
            break
        at = tag.end()
        if tag[0] == "<!--":
            end = source.find("-->", at)
            at = end + 3 if end >= 0 else length if "-->" in source[at:] else at
            continue
        found = _NAME.match(tag[0])
        assert found is not None
        name, closing = found[1].lower(), tag[0][1] == "/"
        if name == "a":
            link_depth = 0 if closing else 1
        elif name in _RAW and not closing:
            end = re.compile(f"</{name}", re.IGNORECASE).search(source, at)
            at = end.start() if end else at
        elif name in _BLOCKS:
            flush()
            if closing:
                if opened.get(name):
                    while stack[-1].name != name:
                        close(tag.start())
                    close(at)
                continue
            if stack[-1].name == "p":
                close(tag.start())
            if name in _CLOSED_BY_LIKE:
                nearest = next((n.name for n in reversed(stack[-12:]) if n.name in _CLOSED_BY_LIKE[name]), "")
                if nearest in _CLOSED_BY_LIKE[name][:-1]:
                    while stack[-1].name != nearest:
                        close(tag.start())
                    close(tag.start())
            if name in _VOID:
                continue
            mark = " ".join("".join(m) for m in _MARK.findall(tag[0])).lower() if "=" in tag[0] else ""
            node = _Node(name, mark, tag.start(), length)
            stack[-1].children.append(node)
            stack.append(node)
            opened[name] = opened.get(name, 0) + 1
    flush()
    while len(stack) > 1:
        close(length)
    return root
