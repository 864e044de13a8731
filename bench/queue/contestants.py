"""All queues of the measurement, in the order of the table."""

from __future__ import annotations

from bench.queue.bare import Bare
from bench.queue.contestant import Contestant
from bench.queue.node_peers import GraphileWorker, PgBoss
from bench.queue.ours import (
    Pipeline,
    PipelineOneOwner,
    PipelineOneOwnerTold,
    PipelineSql,
    PipelineStorage,
    PipelineTold,
)
from bench.queue.python_peers import Oban, PgQueuer, PgQueuerPsycopg, Procrastinate

DRAINING: tuple[type[Contestant], ...] = (
    Pipeline,
    PipelineOneOwner,
    PipelineTold,
    PipelineOneOwnerTold,
    PipelineSql,
    Bare,
    Procrastinate,
    Oban,
    PgQueuerPsycopg,
    PgQueuer,
    PgBoss,
    GraphileWorker,
)
ENQUEUING: tuple[type[Contestant], ...] = (Pipeline, PipelineStorage, *(k for k in DRAINING[1:] if k.wakes))


def by_class(name: str) -> Contestant:
    """The contestant whose class is called so."""
    return next(kind for kind in (*DRAINING, *ENQUEUING) if kind.__name__ == name)()
