"""What an upload pays for our triggers: uploads a second into our bucket, and into one with policies alone beside it.

First the statements that Storage sends for an upload, run by pgbench, which spends next to nothing itself: the harshest
reading, since nothing else of an upload is in it. Then whole uploads of 10 KB over HTTP through the embedded gateway,
which stores the bytes too. Rounds take both buckets in turn, now the one first and now the other, so that a slow
minute of the machine falls on both. Quotas are on in both parts, and set too high to be reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg

from bench import common
from pipeline.embedded.postgres import PostgresServer, binary

_CASES = (
    ("one owner, one client", 1, False),
    ("one owner, eight clients", 8, False),
    ("eight owners, eight clients", 8, True),
)
_SPACE = "all-MiniLM-L6-v2-int8-384"
_OURS, _ALONE = "documents", "alone"
_SIZE = 10_240
STATEMENTS = Path(__file__).with_suffix(".sql")

_BESIDE = """
insert into storage.buckets (id, name, file_size_limit) values ('alone', 'alone', 26214400);
create policy "alone: read" on storage.objects for select to authenticated
  using (bucket_id = 'alone' and starts_with(name, (select pipeline.caller() || '/')));
create policy "alone: upload" on storage.objects for insert to authenticated
  with check (bucket_id = 'alone' and starts_with(name, (select pipeline.caller() || '/')));
create policy "alone: overwrite and move" on storage.objects for update to authenticated
  using (bucket_id = 'alone' and starts_with(name, (select pipeline.caller() || '/')))
  with check (bucket_id = 'alone' and starts_with(name, (select pipeline.caller() || '/')));
update pipeline.limits
   set uploads_per_day = 1000000, max_documents = 1000000, max_stored_bytes = 1000000000000
 where owner_id is null;
"""
_USERS = """
insert into auth.users (id, aud, role, email, created_at)
select ('00000000-0000-4000-8000-00000000000' || n)::uuid, 'authenticated', 'authenticated', n || '@example.org', now()
  from generate_series(0, 7) n
"""

Run = Callable[[str, int, bool], Awaitable[float]]
"""Uploads a second into a bucket, by so many clients, each with an owner of its own or all with the same."""


async def measure(seconds: float = 5, rounds: int = 5) -> dict[str, Any]:
    """Uploads a second with and without our triggers, and the part of the rate that is kept, by part and case."""
    figures: dict[str, Any] = {"seconds": seconds, "rounds": rounds}
    async with common.database(_SPACE) as server:
        async with await psycopg.AsyncConnection.connect(server.url("postgres"), autocommit=True) as connection:
            await connection.execute(_BESIDE)
            await connection.execute(_USERS)

        async def statements(bucket: str, clients: int, each: bool) -> float:
            return await _pgbench(server, bucket, clients, each, seconds)

        figures["statements"] = await _compare("statements", statements, rounds)
    with common.folder() as folder:
        async with common.dev(folder, "--no-listener") as (line, _), contextlib.AsyncExitStack() as stack:
            async with await psycopg.AsyncConnection.connect(line["db_url"], autocommit=True) as connection:
                await connection.execute(_BESIDE)
            users = [await common.sign_up(stack, line) for _ in range(max(clients for _, clients, _ in _CASES))]

            async def gateway(bucket: str, clients: int, each: bool) -> float:
                return await _over_http(users[:clients], bucket, each, seconds)

            figures["gateway"] = await _compare("gateway", gateway, rounds)
    figures["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return figures


async def _compare(what: str, run: Run, rounds: int) -> dict[str, dict[str, float]]:
    rates: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds):
        for case, clients, each in _CASES:
            for bucket in (_OURS, _ALONE) if number % 2 else (_ALONE, _OURS):
                rates.setdefault((case, bucket), []).append(await run(bucket, clients, each))
            ours, alone = (rates[case, bucket][-1] for bucket in (_OURS, _ALONE))
            print(
                f"{what}, round {number + 1} of {rounds}: {case}: {ours:,.0f} of {alone:,.0f} uploads a second",
                file=sys.stderr,
                flush=True,
            )
    return {case: kept_row(rates[case, _OURS], rates[case, _ALONE]) for case, _, _ in _CASES}


def kept_row(ours: list[float], alone: list[float]) -> dict[str, float]:
    """Medians of the rounds; the part that is kept is that of each round, with the least and the most."""
    kept = [one / other for one, other in zip(ours, alone, strict=True)]
    return {
        "ours_per_second": round(statistics.median(ours), 1),
        "alone_per_second": round(statistics.median(alone), 1),
        "kept": round(statistics.median(kept), 3),
        "kept_least": round(min(kept), 3),
        "kept_most": round(max(kept), 3),
    }


async def _pgbench(server: PostgresServer, bucket: str, clients: int, each: bool, seconds: float) -> float:
    """Without its first second, in which the sessions make their plans: Storage's sessions live long."""
    process = await asyncio.create_subprocess_exec(
        binary("pgbench"),
        *("--no-vacuum", "--protocol=extended", "--progress=1", "--jobs=1", f"--client={clients}"),
        *(f"--time={max(1, round(seconds)) + 1}", f"--define=bucket={bucket}", f"--define=each={int(each)}"),
        f"--file={STATEMENTS}",
        server.url("authenticator"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, error = await process.communicate()
    seen = re.findall(r"progress: [\d.]+ s, ([\d.]+) tps", error.decode())
    if process.returncode or len(seen) < 2:
        raise RuntimeError(f"pgbench ended with {process.returncode}:\n{error.decode()[-2000:]}")
    return statistics.mean(float(rate) for rate in seen[1:])


async def _over_http(users: list[common.User], bucket: str, each: bool, seconds: float) -> float:
    began = time.perf_counter()
    content = os.urandom(_SIZE // 2).hex().encode()

    async def client(user: common.User, owner: common.User) -> int:
        done = 0
        while time.perf_counter() - began < seconds:
            name = f"{owner.id}/{time.time_ns()}-{id(user)}.txt"
            answer = await user.http.post(
                f"/storage/v1/object/{bucket}/{name}",
                files={"file": (name, content, "text/plain")},
                headers={"authorization": owner.http.headers["authorization"]},
            )
            if answer.status_code != 200:
                raise RuntimeError(f"the upload was answered with {answer.status_code}: {answer.text}")
            done += 1
        return done

    done = await asyncio.gather(*(client(user, user if each else users[0]) for user in users))
    return sum(done) / (time.perf_counter() - began)


def markdown(figures: dict[str, Any]) -> str:
    """What `measure` returned, as a table."""
    lines = ["| | policies alone | with the triggers | rate kept (min – max) |", "|---|---|---|---|"]
    for what, title in (("statements", "statements alone"), ("gateway", "whole upload, embedded gateway")):
        for case, row in figures[what].items():
            lines.append(
                f"| {title}: {case} | {row['alone_per_second']:,.0f} | {row['ours_per_second']:,.0f} "
                f"| {row['kept']:.0%} ({row['kept_least']:.0%} – {row['kept_most']:.0%}) |"
            )
    return "\n".join(lines)
