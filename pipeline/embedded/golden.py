"""Writes supabase/catalogue.sql anew, from the migrations on an empty project: `make catalogue`."""

from __future__ import annotations

import asyncio

from pipeline.db.connection import OPERATOR, connect
from pipeline.embedded import EmbeddedSupabase
from pipeline.operate import migrate
from pipeline.operate.catalogue import CATALOGUE, read, write


async def main() -> None:
    """Migrate a temporary project and write down what it holds."""
    async with EmbeddedSupabase.start(bare=True) as project:
        await migrate.apply(project.db_url)
        async with await connect(project.db_url, OPERATOR) as connection:
            CATALOGUE.write_text(write((await read(connection)).values()), "utf-8")


if __name__ == "__main__":
    asyncio.run(main())
