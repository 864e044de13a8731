"""One `pipeline dev` for all tests of the command line, and a way to run commands against it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = [sys.executable, "-m", "cli.main"]


def clean_environment(**more: str) -> dict[str, str]:
    """This environment without settings of whoever runs the tests."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UPLOAD_PIPELINE_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "200", "NO_COLOR": "1"} | more


@dataclass
class Dev:
    """A running `pipeline dev --json` and what it printed."""

    process: subprocess.Popen[str]
    data_dir: Path
    line: dict[str, str]
    rest: list[str] = field(default_factory=list)

    def environment(self, home: Path) -> dict[str, str]:
        """What a command needs to work on the project, with its own configuration folder."""
        return clean_environment(
            HOME=str(home),
            XDG_CONFIG_HOME=str(home / "config"),
            UPLOAD_PIPELINE_SUPABASE_URL=self.line["api_url"],
            UPLOAD_PIPELINE_SUPABASE_ANON_KEY=self.line["anon_key"],
            UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY=self.line["service_role_key"],
            UPLOAD_PIPELINE_JWT_SECRET=self.line["jwt_secret"],
            UPLOAD_PIPELINE_DATABASE_URL=self.line["worker_db_url"],
            UPLOAD_PIPELINE_MIGRATION_DATABASE_URL=self.line["db_url"],
        )


def start_dev(data_dir: Path, *options: str, kept: bool = True) -> Dev:
    """Start it and wait for its line. Not kept, its temporary folder is made in that of `data_dir`."""
    where = ["--data-dir", str(data_dir)] if kept else []
    process = subprocess.Popen(
        [*PIPELINE, "dev", "--json", *where, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=data_dir.parent,
        env=clean_environment(UPLOAD_PIPELINE_LOG_LEVEL="WARNING", TMPDIR=str(data_dir.parent)),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stderr), daemon=True)  # type: ignore[arg-type]
    reader.start()
    line = process.stdout.readline()
    if not line:
        process.wait(timeout=30)
        reader.join(timeout=5)
        pytest.fail(f"pipeline dev ended with {process.returncode}: {''.join(said)}")
    return Dev(process, data_dir, json.loads(line))


def stop_dev(dev: Dev, number: int = signal.SIGTERM) -> int:
    """Stop it; returns its exit code, and leaves what it printed besides its line in `rest`."""
    if dev.process.poll() is None:
        dev.process.send_signal(number)
    assert dev.process.stdout is not None
    dev.rest = dev.process.stdout.read().splitlines()
    return dev.process.wait(timeout=60)


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """A folder that the user whom Postgres runs as can reach, unlike pytest's own where root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="pipeline-cli-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="session")
def dev(folder: Path) -> Iterator[Dev]:
    running = start_dev(folder / "project")
    yield running
    stop_dev(running)


@dataclass
class Person:
    """Somebody at a terminal, with a home of their own."""

    environment: dict[str, str]
    home: Path

    def run(self, *arguments: str, stdin: str = "", expect: int = 0) -> Result:
        """Run a command in this process, which spares each the time that Python takes to start."""
        before, folder = dict(os.environ), Path.cwd()
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.home)
        try:
            done = CliRunner().invoke(app, list(arguments), input=stdin)
        finally:
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(before)
        assert done.exit_code == expect, f"{arguments} ended with {done.exit_code}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect).stdout)


@pytest.fixture
def person(dev: Dev, tmp_path: Path) -> Person:
    """An operator and client of the running project."""
    return Person(dev.environment(tmp_path), tmp_path)


@pytest.fixture
def signed_in(person):
    """A person with a new account, whose session is kept."""
    email = f"{uuid.uuid4().hex[:8]}@example.com"
    done = person.run("sign-in", email, "--create", "--password-stdin", "--json", stdin="correct horse battery\n")
    person.user = json.loads(done.stdout)
    return person


def write(person, **files):
    """Write files into the person's folder `docs` and return it; `_` is a dot in a name, and `__` a slash."""
    folder = person.home / "docs"
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return str(folder)
