"""The floor: a plain table, taken in batches by `for update skip locked` and marked done, and nothing else."""

from __future__ import annotations

import asyncio

import psycopg

from bench.queue.contestant import BULK, Contestant, Go, NoOp
from bench.queue.ours import BATCH

_TABLES = """
create table jobs (id bigint generated always as identity primary key, state text not null default 'available');
create index on jobs (id) where state = 'available';
create function told() returns trigger language plpgsql as $$ begin notify jobs; return null; end $$;
create trigger told after insert on jobs for each statement execute function told();
"""
_CLAIM = b"""
update jobs set state = 'running'
 where id in (select id from jobs where state = 'available' order by id limit %s for update skip locked)
returning id
"""
_COMPLETE = b"update jobs set state = 'done' where id = any(%s) and state = 'running'"


class Bare(Contestant):
    name = "bare loop"
    settings = f"claims and acknowledges {BATCH} at a time, one connection"
    database = "bench_bare"
    clear = "truncate jobs"
    busy = "select exists (select from jobs where state <> 'done')"
    insert = "insert into jobs default values"

    async def install(self, url: str) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(_TABLES.encode())

    async def single(self, url: str, jobs: int, go: Go) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await go()
            for _ in range(jobs):
                await connection.execute(self.insert.encode())

    async def bulk(self, url: str, jobs: int, go: Go) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await go()
            for begin in range(0, jobs, BULK):
                await connection.execute(
                    "insert into jobs (state) select 'available' from generate_series(1, %s)",
                    (min(BULK, jobs - begin),),
                )

    async def work(self, url: str, no_op: NoOp, go: Go) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("listen jobs")
            await go()
            # Not asynchronous at all: nothing is cheaper than waiting for the socket.
            await asyncio.to_thread(_loop, connection, no_op)


def _loop(connection: psycopg.Connection, no_op: NoOp) -> None:
    while True:
        while rows := connection.execute(_CLAIM, (BATCH,)).fetchall():
            for _ in rows:
                no_op()
            connection.execute(_COMPLETE, ([row[0] for row in rows],))
        for _ in connection.notifies(timeout=5, stop_after=1):
            pass
