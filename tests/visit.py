"""`pytest --project`: the suites against the project that the environment names, which is left as it was found.

Files take turns: while one runs, an advisory lock in the project's database keeps every other run out, so whatever
appears meanwhile was made by it. What a file changed of the project's settings is put back at its end; users, buckets
and all that hangs on them go at the end of the run, also after a failure or Ctrl-C.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import SetupError
from pipeline.settings import PREFIX, load
from tests.guest import Guest
from tests.project import NAMED, NamedProject

TESTS = Path(__file__).parent
PARTS: dict[str, tuple[str, ...]] = {
    "access in SQL": ("access/test_attacks.py", "access/test_worker.py"),
    "access over HTTP": (
        "access/test_files.py",
        "access/test_rest.py",
        "access/test_tokens.py",
        "access/test_topics.py",
    ),
    "client journeys": ("sdk/test_journey.py", "docs/test_readme.py"),
    "quotas": ("sdk/test_quota.py",),
    "two-step writes": ("gateway/test_storage_writes.py",),
    "resumable uploads": ("gateway/test_resumable.py", "sdk/test_resumable.py"),
    "storage answers": ("gateway/test_storage_answers.py",),
    "listener": ("worker/test_listener.py", "worker/test_many.py", "worker/test_real_input.py"),
    "erasure": ("worker/test_erasure.py",),
}
"""What can face any project, by the name that the summary has for it."""
FACING = {"project", "world", "w"}
"""The fixtures through which a test sees the project."""


def part_of(item: pytest.Item) -> str | None:
    """The part that a test belongs to; None for one that does not face a project."""
    if not FACING & set(getattr(item, "fixturenames", ())):
        return None
    path = item.path.relative_to(TESTS).as_posix()
    return next((part for part, files in PARTS.items() if path in files), None)


class Visit:
    """The plugin."""

    def __init__(self, config: pytest.Config) -> None:
        try:
            settings = load()
            # what else is set there is the operator's, and no test's
            for name in [name for name in os.environ if name.upper().startswith(PREFIX)]:
                del os.environ[name]
            project = NamedProject(settings)
            self.guest = Guest(project, say=_say)
            self.guest.arrive()
        except SetupError as error:
            raise pytest.UsageError(str(error)) from None
        config.stash[NAMED] = project
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            config.args = [str(TESTS / file) for files in PARTS.values() for file in files]
        # a stop is a stop, whoever asks for it
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.reasons: Counter[str] = Counter()
        self.embedded: dict[str, str] = {}
        self.left: list[str] | None = None
        self._parts: dict[str, str] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept, other = [], []
        for item in items:
            part = part_of(item)
            (kept if part else other).append(item)
            if part:
                self._parts[item.nodeid] = part
            if part and (marker := item.get_closest_marker("embedded")):
                self.embedded[item.nodeid] = marker.args[0]
                item.add_marker(pytest.mark.skip(reason=f"only on the embedded one: {marker.args[0]}"))
        order = list(PARTS)
        items[:] = sorted(kept, key=lambda item: order.index(self._parts[item.nodeid]))
        config.hook.pytest_deselected(items=other)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        self.guest.take_turn()
        try:
            return (yield)
        finally:
            if nextitem is None or nextitem.path != item.path:
                self.guest.end_turn()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = self._parts.get(report.nodeid)
        if part is None:
            return
        if report.failed:
            self.outcomes[part]["failed"] += 1
        elif report.skipped:
            self.outcomes[part]["not possible here"] += 1
            if report.nodeid not in self.embedded:
                self.reasons[str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)] += 1
        elif report.when == "call":
            self.outcomes[part]["held"] += 1

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Iterator[None]:
        yield  # fixtures end first
        self.left = ["everything: it was interrupted while it cleaned up"]
        try:
            self.left = self.guest.leave()
        except KeyboardInterrupt:
            _say("interrupted while cleaning up")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        write = terminalreporter.write_line
        terminalreporter.section(f"what held on {self.guest.project.api_url}")
        columns = ("held", "failed", "not possible here")
        write(f"{'':<20}{''.join(f'{column:>20}' for column in columns)}")
        for part in PARTS:
            counts = self.outcomes[part]
            said = "".join(f"{counts[column]:>20}" for column in columns)
            write(f"{part:<20}{said if counts else 'did not run':>20}")
        for reason, count in self.reasons.most_common():
            write(f"not possible here ({count}): {reason.removeprefix('Skipped: ')}")
        if self.embedded:
            write("Only on the embedded project, by `make test`:")
        for reason, count in Counter(self.embedded.values()).most_common():
            names = [nodeid.partition("::")[2] for nodeid, why in self.embedded.items() if why == reason]
            write(f"  {names[0]}{f' and {count - 1} more' if count > 1 else ''}: {reason}")
        if self.left:
            write("It could not be left as it was found. What is there still:", red=True)
        for what in self.left or []:
            write(f"  {what}", red=True)
        for what in self.guest.stays:
            write(f"It stays: {what}")
        if self.left == []:
            write("Everything else that the suites made is gone.")


def _say(text: str) -> None:
    print(text, file=sys.__stderr__, flush=True)
