"""A provider's limits: requests and tokens a minute as buckets that refill as their clock runs, and calls at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field


def by_the_second() -> float:
    """The clock of a provider that refills its buckets once a second."""
    return math.floor(time.monotonic())


@dataclass
class Bucket:
    """`per_minute` may be changed at any time; what stood in it stays, as far as the new limit allows."""

    per_minute: float = math.inf
    clock: Callable[[], float] = time.monotonic
    _level: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._level, self._at = self.per_minute, self.clock()

    @property
    def level(self) -> float:
        """What may be taken now."""
        now = self.clock()
        if math.isfinite(self.per_minute):
            refilled = self._level + self.per_minute / 60 * (now - self._at)
            self._level = min(self.per_minute, refilled)
        else:
            self._level = math.inf
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        self._level = self.level - amount

    def seconds_until(self, amount: float) -> float:
        return max(0.0, (amount - self.level) / self.per_minute * 60)


@dataclass
class Limits:
    """What a provider allows; all of it may be changed while it runs."""

    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    concurrency: float = math.inf
    latency: float = 0.0
    """Seconds that each answer takes at least."""
    tells: bool = True
    """Whether answers carry the limits in `x-ratelimit-*`, and refusals `retry-after-ms`."""
    calls: int = 0
    refused: int = 0
    taken: int = 0
    """Tokens that were let through."""
    running: int = 0

    def admit(self, tokens: int) -> bool:
        """Take one request and its tokens, or nothing where one of them is not there."""
        self.calls += 1
        if self.running >= self.concurrency or self.requests.level < 1 or self.tokens.level < tokens:
            self.refused += 1
            return False
        self.requests.take(1)
        self.tokens.take(tokens)
        self.taken += tokens
        return True

    def headers(self) -> dict[str, str]:
        """OpenAI's, for the buckets that have a limit."""
        if not self.tells:
            return {}
        told = {}
        for kind, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if math.isfinite(bucket.per_minute):
                told[f"x-ratelimit-limit-{kind}"] = str(int(bucket.per_minute))
                told[f"x-ratelimit-remaining-{kind}"] = str(int(bucket.level))
                told[f"x-ratelimit-reset-{kind}"] = f"{bucket.seconds_until(bucket.per_minute) * 1000:.0f}ms"
        return told

    def refusal(self, tokens: int) -> dict[str, str]:
        """The headers of a 429."""
        if not self.tells:
            return {}
        wait = max(self.requests.seconds_until(1), self.tokens.seconds_until(tokens))
        return self.headers() | {"retry-after-ms": f"{wait * 1000:.0f}"}
