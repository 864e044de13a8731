"""What a listener logs when every logger of every library says all that it can."""

from __future__ import annotations

import asyncio

from pipeline.embedded.fakes.llamaparse import Plan
from pipeline.embedded.fakes.openai import rate_limited
from pipeline.embedded.fakes.server import Fault
from tests.worker.test_many import ROOT, start_listener
from tests.worker.test_paid_providers import paid, project  # noqa: F401 (fixtures)
from tests.worker.test_webhook import SECRET, free_port, settings_of

LOUD = """
import logging
logging.basicConfig(level=1, format="%(name)s %(levelname)s %(message)s")
logging.Logger.isEnabledFor = lambda self, level: True
logging.Logger.getEffectiveLevel = lambda self: 1
"""
"""Runs before the listener, as `sitecustomize`: no level keeps anything back, whoever sets one."""


async def test_no_key_no_secret_and_no_text_is_logged_at_any_level_of_any_library(
    user,
    project,  # noqa: F811
    watch,
    paid,  # noqa: F811
    tmp_path,
):
    (tmp_path / "sitecustomize.py").write_text(LOUD)
    paid.settings |= settings_of(free_port()) | {"llamaparse_webhook_secret": SECRET}
    paid.parser.plan(Plan(takes=0.2, webhook="forged"), Plan(takes=0.2))
    paid.parser.script.add(Fault(status=500, body={"detail": "zebra"}))
    paid.embedder.script.add(
        Fault(status=429, body=rate_limited(), headers={"retry-after": "0"}), Fault("truncated"), Fault(kind="zero")
    )
    await watch.connection.execute("update pipeline.settings set max_failures = 9")
    listener = await start_listener(
        project, tmp_path, **paid.environment(), PYTHONPATH=f"{tmp_path}:{ROOT}", UPLOAD_PIPELINE_LOG_LEVEL="DEBUG"
    )
    try:
        for name in ("zebra-one.txt", "zebra-two.txt"):
            await user.upload(name, f"The zebra of {name} is left-handed.".encode())
            async with asyncio.timeout(60):
                while (await user.job(name))["state"] != "completed":
                    await watch.connection.execute(
                        "update pipeline.jobs set available_at = now() where state = 'available'"
                    )
                    await watch.connection.execute("update pipeline.wakeups set due_at = now()")
                    await watch.connection.execute("update pipeline.provider_keys set cooling_until = null")
                    await asyncio.sleep(0.1)
    finally:
        listener.terminate()
        assert await asyncio.to_thread(listener.wait, 60) == 0
    text = "\n".join(path.read_text() for path in tmp_path.glob("listener-*.log"))
    assert "asyncio DEBUG" in text  # they did speak
    assert (401 in dict(map(reversed, paid.parser.delivered)), '"job failed"' in text) == (True, True)
    secrets = {
        "a key": [paid.parser.key, paid.embedder.key, project.service_role_key],
        "the webhook's secret": [SECRET],
        "a password": [project.worker_password],
        "text or a name": ["zebra", "left-handed"],
    }
    leaks = [
        f"{what}: {line[:200]}"
        for what, words in secrets.items()
        for line in text.splitlines()
        if any(word in line for word in words)
    ]
    assert leaks == []
