"""What operators ask about money: costs, budgets, prices; and what an upload would cost before it is made."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from pydantic import SecretStr

from pipeline import app
from pipeline.chunks.cutting import chunk
from pipeline.errors import JobError
from pipeline.files.sniff import sniff
from pipeline.job import FetchedFile
from pipeline.local.parser import LocalParser
from pipeline.operate.operations import Operations, Row
from pipeline.providers.estimate import pages
from pipeline.providers.parser import reads_pictures
from pipeline.settings import Settings

GROUPS = {
    "day": "c.day::text",
    "owner": "coalesce(u.email, c.owner_id::text, 'nobody')",
    "document": "coalesce(d.name, c.document_id::text, 'gone')",
    "provider": "c.provider || ' ' || c.model",
}
"""What costs are added up by, and how a line is called."""

_COSTS = """
select {name} as name, sum(c.calls)::bigint as calls, sum(c.pages)::bigint as pages, sum(c.inputs)::bigint as inputs,
       sum(c.tokens)::bigint as tokens, coalesce(sum(c.amount), 0) as amount, sum(c.unconfirmed) as unconfirmed,
       sum(c.without_price)::bigint as without_price
  from pipeline.costs c
  left join auth.users u on u.id = c.owner_id
  left join pipeline.documents d on d.id = c.document_id
 where c.day >= %(since)s::date
   and (%(owner)s::uuid is null or c.owner_id = %(owner)s)
 group by 1
 order by {order}
"""
_BUDGETS = """
select b.scope, b.owner_id, u.email, b.period, b.amount,
       case when b.scope = 'all' or b.owner_id is not null then
         coalesce((select sum(s.amount) from pipeline.spent_days s
                    where (s.owner_id = b.owner_id or b.owner_id is null and s.owner_id is null)
                      and s.day >= (date_trunc(b.period, pipeline.now() at time zone 'utc'))::date), 0) end as spent
  from pipeline.budgets b
  left join auth.users u on u.id = b.owner_id
 order by b.scope, b.owner_id nulls first, b.period
"""


class Money(Operations):
    """An operator's connection, for money. Amounts are Decimals in US dollars."""

    async def costs(self, by: str, *, since: date, owner: UUID | None = None) -> list[Row]:
        """What was bought on that UTC day and after it, added up by one of GROUPS."""
        query = _COSTS.format(name=GROUPS[by], order="1" if by == "day" else "amount desc, 1")
        return await self._all(query, {"since": since, "owner": owner})

    async def today(self) -> date:
        """The day of the database's clock, UTC."""
        row = await self._one("select (pipeline.now() at time zone 'utc')::date as day")
        assert row is not None
        return row["day"]

    async def budgets(self) -> list[Row]:
        """All budgets, with what is spent of each in its period; None for a default that holds for each owner."""
        return await self._all(_BUDGETS)

    async def set_budget(self, scope: str, owner: UUID | None, period: str, amount: Decimal | None) -> None:
        """Set a budget; None lifts an owner's above the default. Jobs that wait for one ask again."""
        await self._run(
            "insert into pipeline.budgets (scope, owner_id, period, amount) values (%s, %s, %s, %s) "
            "on conflict (scope, owner_id, period) do update set amount = excluded.amount",
            (scope, owner, period, amount),
        )

    async def remove_budget(self, scope: str, owner: UUID | None, period: str) -> bool:
        """Whether there was one."""
        removed = await self._one(
            "delete from pipeline.budgets where scope = %s and owner_id is not distinct from %s and period = %s "
            "returning true",
            (scope, owner, period),
        )
        return removed is not None

    async def prices(self) -> list[Row]:
        """All prices, of each unit the newest first."""
        return await self._all(
            "select provider, model, unit, price, valid_from, "
            "valid_from = (select max(n.valid_from) from pipeline.prices n where (n.provider, n.model, n.unit) = "
            "(p.provider, p.model, p.unit) and n.valid_from <= (pipeline.now() at time zone 'utc')::date) as holds "
            "from pipeline.prices p order by provider, model, unit, valid_from desc"
        )

    async def set_price(self, provider: str, model: str, unit: str, price: Decimal, valid_from: date) -> None:
        """Say what one unit costs from that UTC day on. Jobs that wait for a price ask again."""
        await self._run(
            "insert into pipeline.prices (provider, model, unit, price, valid_from) values (%s, %s, %s, %s, %s) "
            "on conflict (provider, model, unit, valid_from) do update set price = excluded.price",
            (provider, model, unit, price, valid_from),
        )

    async def providers(self) -> list[Row]:
        """The rows of pipeline.provider_health."""
        return await self._all("select * from pipeline.provider_health order by provider, fingerprint")

    async def set_in_flight(self, provider: str, most: int | None) -> None:
        """Bound the calls at once with each key of the provider; None: as many as the listeners make."""
        if most is None:
            await self._run("delete from pipeline.provider_limits where provider = %s", (provider,))
        else:
            await self._run(
                "insert into pipeline.provider_limits (provider, max_in_flight) values (%s, %s) "
                "on conflict (provider) do update set max_in_flight = excluded.max_in_flight",
                (provider, most),
            )

    async def price(self, provider: str, model: str, *, pages: int = 0, tokens: int = 0) -> Decimal | None:
        """What so much costs today; None where no price is known."""
        row = await self._one(
            "select pipeline.price_of(%s, %s, %s, null, %s, pipeline.now()) as amount", (provider, model, pages, tokens)
        )
        return row["amount"] if row else None


@dataclass(frozen=True, slots=True)
class Quote:
    """What one file would need. `problem` is why it could not be read here."""

    path: Path
    pages: int
    passages: int = 0
    tokens: int = 0
    problem: str = ""


async def quotes(settings: Settings, paths: Sequence[Path]) -> AsyncIterator[Quote]:
    """Read each file as the local parser does and cut it as a listener would. Nothing is sent anywhere."""
    if settings.embedder == "openai" and not settings.openai_api_key.get_secret_value():
        settings = settings.model_copy(update={"openai_api_key": SecretStr("counting needs no key")})
    parser, embedder = LocalParser(settings), app.make_embedder(settings)
    try:
        await asyncio.gather(parser.warm_up(), embedder.warm_up())
        for path in paths:
            yield await _quote(settings, parser, embedder, path)
    finally:
        await asyncio.gather(parser.close(), embedder.close())


async def _quote(settings: Settings, parser: LocalParser, embedder: app.Embedder, path: Path) -> Quote:
    async def nothing(_: object) -> None: ...

    guess = 0
    try:
        media_type, extension = sniff(path, path.name, pictures=reads_pictures(settings))
        guess = pages(path, media_type)
        with tempfile.TemporaryDirectory(prefix="pipeline-estimate-") as folder:
            copy = Path(folder, f"file{extension}")
            copy.symlink_to(path.resolve())
            file = FetchedFile(copy, path.stat().st_size, b"", media_type, extension)
            parsed = await parser.parse(file, resume=None, remember=nothing, progress=nothing)
        chunks = await asyncio.to_thread(
            chunk,
            parsed,
            count_tokens=embedder.count_tokens,
            max_tokens=min(settings.chunk_tokens, embedder.max_tokens),
            overlap=settings.chunk_overlap,
            input_limit=embedder.max_tokens,
        )
    except JobError as error:
        return Quote(path, guess, problem=error.message)
    inputs = {c.embedding_input for c in chunks}
    tokens = await asyncio.to_thread(lambda: sum(map(embedder.count_tokens, inputs)))
    counted = any(page.number is not None for page in parsed.pages)
    return Quote(path, parsed.page_count if counted else guess, len(inputs), tokens)
