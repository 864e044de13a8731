"""Usage: every command explains itself, and no mistake ends in a traceback."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
import typer
from typer.testing import CliRunner

from cli.common import stop_on_signals
from cli.env_example import render
from cli.main import app
from tests.cli.conftest import PIPELINE, ROOT, clean_environment


def commands(command=None, path=()):
    """(path, command) of every command of the tree, groups included."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


TREE = list(commands())


@pytest.fixture
def runner(monkeypatch, tmp_path):
    """Runs commands in a folder without .env, without settings of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("UPLOAD_PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return CliRunner()


@pytest.mark.parametrize(("path", "command"), TREE, ids=[" ".join(path) or "pipeline" for path, _ in TREE])
def test_every_command_has_help_and_an_example(path, command):
    assert command.help, path
    assert f"Example: `pipeline{' ' if path else ''}{' '.join(path)}" in command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None) or parameter.name in ("help", "install_completion", "show_completion")


@pytest.mark.parametrize("path", [path for path, _ in TREE])
def test_every_command_shows_its_help(runner, path):
    result = runner.invoke(app, [*path, "--help"])
    assert result.exit_code == 0, result.output


def test_the_version_is_told(runner):
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.output.startswith("document-pipeline ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "list"], "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL"),
        (["jobs", "list", "--db-url", "postgresql://postgres@127.0.0.1:1/x"], "Nothing answers"),
        (["migrate", "--db-url", "not a url at all"], "connection string"),
        (["search", "where?"], "UPLOAD_PIPELINE_SUPABASE_URL"),
        (["ingest", "."], "no files"),
        (["sign-in", "ada@example.com", "--password-stdin"], "UPLOAD_PIPELINE_SUPABASE_URL"),
        (["listen"], "UPLOAD_PIPELINE_DATABASE_URL"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_with_the_remedy(runner, arguments, said):
    result = runner.invoke(app, arguments)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_a_mistyped_setting_is_named_with_the_right_one(runner, monkeypatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_SUPABASE_ULR", "http://127.0.0.1:1")
    result = runner.invoke(app, ["jobs", "list"])
    assert result.exit_code == 1
    assert "did you mean UPLOAD_PIPELINE_SUPABASE_URL" in result.stderr


def test_a_project_that_does_not_answer_is_a_sentence(runner, monkeypatch):
    monkeypatch.setenv("UPLOAD_PIPELINE_SUPABASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("UPLOAD_PIPELINE_SUPABASE_ANON_KEY", "sb_publishable_x")
    result = runner.invoke(app, ["sign-in", "ada@example.com", "--password-stdin"], input="secret\n")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["jobs", "list", "--state", "asleep"],
        ["jobs", "retry"],
        ["jobs", "retry", "4", "--all"],
        ["jobs", "retry", "--state", "running", "--all"],
        ["ingest", "does-not-exist.pdf"],
        ["dev", "--port", "0"],
    ],
)
def test_wrong_usage_ends_with_2(runner, arguments):
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback(tmp_path):
    done = subprocess.run(
        [*PIPELINE, "--debug", "jobs", "list"], env=clean_environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_the_example_of_the_settings_is_theirs():
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == render(), "python -m cli.env_example > .env.example"


async def test_an_error_is_no_interruption_though_the_listener_was_told_to_stop():
    async def work() -> None:
        with stop_on_signals(forgive=True) as stop:
            stop.set()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await work()


async def test_what_breaks_after_ctrl_c_is_an_interruption():
    # KeyboardInterrupt would end the test run, were it let through.
    interrupted = False
    try:
        with stop_on_signals(forgive=True) as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            raise ValueError("a child was stopped too")
    except KeyboardInterrupt:
        interrupted = True
    assert interrupted
