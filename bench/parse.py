"""How much of the text in a folder of files the local parser finds, beside other readers; its time and its memory.

Words are runs of letters and digits in any case, each Chinese, Japanese or Thai character one by itself. Recall is the
part of the judge's words that our text has too, precision the part of ours that the judge has; a word that stands there
five times counts five times. A judge is wrong now and then: the files that lose most are listed to be looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import statistics
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.readers import installed
from pipeline.errors import JobError, SetupError
from pipeline.files.sniff import sniff
from pipeline.job import FetchedFile, Parsed
from pipeline.local.parser import LocalParser
from pipeline.providers.parser import reads_pictures
from pipeline.settings import Settings

FEWEST_WORDS = 20
"""A file in which the judge finds fewer is not judged."""
_WORSE = 0.005
_SCRIPTS_WITHOUT_SPACES = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_SCRIPTS_WITHOUT_SPACES}]|(?:(?![{_SCRIPTS_WITHOUT_SPACES}])[^\W_])+")


@dataclass(slots=True)
class Row:
    """One file."""

    file: str
    kind: str
    outcome: str
    """`read`, or the sentence that refused it."""
    ms: float = 0
    mb: float | None = None
    """The most memory that its child held; None where it was too quick to be seen."""
    words: int = 0
    judged: int = 0
    """Words that the judge found."""
    recall: float | None = None
    precision: float | None = None
    pages: int = 0
    failed_pages: int = 0
    missing: list[str] = field(default_factory=list)
    """Some of the words that ours lacks."""
    beside: dict[str, float] = field(default_factory=dict)
    """The recall of the other readers."""


def words(text: str) -> Counter[str]:
    """The words of a text, each with how often it is there."""
    return Counter(_WORD.findall(unicodedata.normalize("NFKC", text).casefold().replace("\xad", "")))


async def measure(
    folders: Sequence[Path],
    *,
    worst: int = 20,
    before: Path | None = None,
    others: bool = True,
    progress: Callable[[int, int, str], None] = lambda *_: None,
) -> dict[str, Any]:
    """Read every file in `folders` (a file stands for itself) and judge it; `before` is an earlier run's --json.

    Raises SetupError where there is no file.
    """
    files = [file for folder in folders for file in _files(folder)]
    if not files:
        raise SetupError(f"There are no files in {', '.join(map(str, folders))}.")
    rows = []
    settings = Settings()
    parser = LocalParser(settings)
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as scratch:
        try:
            await parser.warm_up()
            for number, (name, path) in enumerate(files, 1):
                progress(number, len(files), name)
                rows.append(await _one(parser, settings, name, path, Path(scratch) / "file", others))
        finally:
            await parser.close()
    return _summary(rows, worst) | (_compared(rows, before) if before else {})


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    if folder.is_file():
        yield folder.name, folder
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
            yield str(path.relative_to(folder.parent)), path


async def _one(parser: LocalParser, settings: Settings, name: str, path: Path, copy: Path, others: bool) -> Row:
    data = path.read_bytes()
    copy.write_bytes(data)  # as a listener has it: without its name
    row = Row(name, path.suffix.lower() or "?", "read")
    began = time.perf_counter()
    text = ""
    try:
        media_type, row.kind = sniff(copy, path.name, pictures=reads_pictures(settings))
        parsed, row.mb = await _parsed(parser, FetchedFile(copy, len(data), b"", media_type, row.kind))
        text = "\n".join(page.markdown for page in parsed.pages)
        row.pages, row.failed_pages = len(parsed.pages), len(parsed.failed_pages)
    except JobError as error:
        row.outcome = error.message
    row.ms = round((time.perf_counter() - began) * 1000, 2)
    found = words(text)
    row.words = found.total()
    readers = installed(row.kind)
    for place, reader in enumerate(readers if others else readers[:1]):
        told = await asyncio.to_thread(reader.text, path)
        if place == 0:
            judge = words(told or "")
            row.judged = judge.total()
            if row.judged < FEWEST_WORDS:
                break
            row.recall, row.precision = _part(judge, found), _part(found, judge)
            row.missing = [word for word, _ in (judge - found).most_common(12)]
        else:
            row.beside[reader.name] = _part(judge, words(told or ""))
    return row


def _part(of: Counter[str], has: Counter[str]) -> float:
    return round((of & has).total() / of.total(), 4) if of.total() else 0.0


async def _parsed(parser: LocalParser, file: FetchedFile) -> tuple[Parsed, float | None]:
    """What the parser makes of it, and the most megabytes that its child was seen with."""

    async def ignore(_: object) -> None:
        pass

    peak = 0
    parse = asyncio.create_task(parser.parse(file, resume=None, remember=ignore, progress=ignore))
    server = psutil.Process(parser.server_pid) if parser.server_pid else None
    while not parse.done():
        if server is not None:
            with contextlib.suppress(psutil.Error, OSError, ValueError):
                peak = max([peak, *(_most_memory(child) for child in server.children())])
        await asyncio.wait([parse], timeout=0.003)
    return parse.result(), round(peak / 1e6, 1) if peak else None


def _most_memory(child: psutil.Process) -> int:
    status = Path(f"/proc/{child.pid}/status")
    if not status.exists():
        return child.memory_info().rss
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
    return int(found[1]) * 1024 if found else 0


def _summary(rows: list[Row], worst: int) -> dict[str, Any]:
    kinds = {kind: _figures([row for row in rows if row.kind == kind]) for kind in sorted({row.kind for row in rows})}
    refused = Counter(row.outcome for row in rows if row.outcome != "read")
    return {
        "files": len(rows),
        "read": sum(row.outcome == "read" for row in rows),
        "kinds": kinds,
        "refused": dict(refused.most_common()),
        "lose_most": [asdict(row) for row in sorted(_judged(rows), key=_recall)[:worst] if _recall(row) < 1],
        "slowest": {row.file: row.ms for row in sorted(rows, key=lambda row: -row.ms)[:5]},
        "hungriest_mb": {row.file: row.mb for row in sorted(rows, key=lambda row: -(row.mb or 0))[:5]},
        "each": [asdict(row) for row in rows],
    }


def _judged(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.recall is not None]


def _recall(row: Row) -> float:
    return row.recall or 0.0


def _figures(rows: list[Row]) -> dict[str, Any]:
    judged = _judged(rows)
    figures: dict[str, Any] = {
        "files": len(rows),
        "judged": len(judged),
        "time_ms": _spread([row.ms for row in rows]),
        "memory_mb": _spread([row.mb for row in rows if row.mb is not None]),
    }
    if judged:
        recalls = [_recall(row) for row in judged]
        figures["recall"] = {
            "median": statistics.median(recalls),
            "mean": round(statistics.fmean(recalls), 4),
            "under_0.9": sum(recall < 0.9 for recall in recalls),
            "under_0.5": sum(recall < 0.5 for recall in recalls),
        }
        figures["precision"] = {
            "median": statistics.median([row.precision or 0.0 for row in judged]),
            "mean": round(statistics.fmean([row.precision or 0.0 for row in judged]), 4),
        }
        figures["recall_of_others"] = {
            name: {
                "median": statistics.median([row.beside.get(name, 0.0) for row in judged]),
                "under_0.9": sum(row.beside.get(name, 0.0) < 0.9 for row in judged),
            }
            for name in sorted({name for row in judged for name in row.beside})
        }
    return figures


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": statistics.median(ordered),
        "p99": ordered[math.ceil(len(ordered) * 0.99) - 1],
        "max": ordered[-1],
    }


def _compared(rows: list[Row], before: Path) -> dict[str, Any]:
    """What an earlier run of the same files read better, and worse."""
    earlier = {row["file"]: row for row in json.loads(before.read_text(encoding="utf-8"))["each"]}
    pairs = [(row, earlier[row.file]["recall"] or 0.0) for row in _judged(rows) if row.file in earlier]
    worse = {row.file: [was, _recall(row)] for row, was in pairs if _recall(row) < was - _WORSE}
    return {
        "compared": len(pairs),
        "better": sum(_recall(row) > was + _WORSE for row, was in pairs),
        "worse": dict(sorted(worse.items(), key=lambda pair: pair[1][1] - pair[1][0])),
    }


def markdown(figures: dict[str, Any]) -> str:
    """A summary for people, which is a part of a document too."""
    lines = [
        f"{figures['read']:,} of {figures['files']:,} files were read.",
        "",
        "| kind | files | judged | recall, median | under 0.9 | under 0.5 | precise, median | ms p50 / p99 | MB p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for kind, row in figures["kinds"].items():
        recall, precision, ms = row.get("recall"), row.get("precision"), row["time_ms"]
        told = [recall["median"], recall["under_0.9"], recall["under_0.5"], precision["median"]] if recall else [""] * 4
        cells = [kind, row["files"], row["judged"], *told, f"{ms['p50']:.1f} / {ms['p99']:.0f}"]
        lines.append("| " + " | ".join(map(str, [*cells, row["memory_mb"].get("p99", "")])) + " |")
    for kind, row in figures["kinds"].items():
        for name, other in row.get("recall_of_others", {}).items():
            lines.append(
                f"- {kind}: {name} finds {other['median']} at the median; {other['under_0.9']} files under 0.9."
            )
    if figures["refused"]:
        lines += ["", "Refused:", *(f"- {count} × {sentence}" for sentence, count in figures["refused"].items())]
    if figures["lose_most"]:
        lines += [
            "",
            "The files that lose most:",
            "",
            "| file | recall | words of the judge | said | some that are missing |",
        ]
        lines.append("|---|---|---|---|---|")
    for row in figures["lose_most"]:
        missing = " ".join(row["missing"]).replace("|", "")
        lines.append(f"| {row['file']} | {row['recall']} | {row['judged']} | {row['outcome'][:40]} | {missing} |")
    lines += ["", "The slowest: " + ", ".join(f"{file} ({ms:.0f} ms)" for file, ms in figures["slowest"].items())]
    if "compared" in figures:
        lines += [
            "",
            f"{figures['compared']} files compared: {figures['better']} better, {len(figures['worse'])} worse.",
        ]
        lines += [f"- {file}: {was} before, {now} now" for file, (was, now) in figures["worse"].items()]
    return "\n".join(lines)
