"""`pipeline check`: is this installation able to work?"""

from __future__ import annotations

import logging
from dataclasses import asdict

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import JsonOption, out, print_json, run
from pipeline.settings import load


def check(json: JsonOption = False) -> None:
    """Look at settings, database, roles, keys, storage, listeners; exit 1 when something is wrong.

    Each finding comes with what to do about it.

    Example: `pipeline check`
    """
    from pipeline.operate import checks

    # What the pool would say of a database that does not answer is a finding already.
    logging.getLogger("psycopg.pool").setLevel(logging.CRITICAL)
    findings = run(checks.check(load()))
    wrong = any(finding.ok is False for finding in findings)
    if json:
        print_json({"ok": not wrong, "findings": [asdict(finding) for finding in findings]})
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for finding in findings:
            mark = {True: "[green]ok[/]", False: "[bold red]wrong[/]", None: "[yellow]?[/]"}[finding.ok]
            remedy = f"\n[bold]{escape(finding.remedy)}[/]" if finding.remedy else ""
            table.add_row(mark, escape(finding.name), escape(" ".join(finding.detail.split())) + remedy)
        out().print(table)
    if wrong:
        raise typer.Exit(1)
