"""Embeddings by OpenAI, or by any server that speaks its `/embeddings`, through the official SDK.

Requests are packed under the documented limits: 2,048 inputs, 300,000 tokens, 8,192 tokens an input. The server
has been seen to count a request's tokens as UTF-8 bytes × 0.25, so that rule is kept beside the exact count.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Sequence

import numpy as np
import openai
import toktok

from pipeline.errors import JobError, SetupError
from pipeline.job import Space
from pipeline.providers.answers import PassageRefused, Refused, billed, job_error, malformed, outage, settings_refused
from pipeline.providers.embedder import Keep, Vectors, unkept
from pipeline.providers.limiter import Call, Spend, TooMuch, free
from pipeline.providers.vectors import check_texts, unit_vectors
from pipeline.settings import Settings

MAX_INPUTS = 2_048
MAX_REQUEST_TOKENS = 300_000
TOKENS_PER_BYTE = 0.25
PROBE = "ping"


class OpenAIEmbedder:
    """Implements Embedder for `settings.openai_model` in `settings.openai_dimensions`.

    `count_tokens` is exact for the cl100k models (text-embedding-3-*, ada-002). `timeout` is in seconds, for one
    request from first byte to last. Raises SetupError without a key.
    """

    provider = "openai"
    max_tokens = 8_192
    batch_size = 256

    def __init__(self, settings: Settings, *, timeout: float = 120.0) -> None:
        key = settings.openai_api_key.get_secret_value()
        if not key:
            raise SetupError("UPLOAD_PIPELINE_OPENAI_API_KEY is empty and UPLOAD_PIPELINE_EMBEDDER is openai")
        self.space = Space(settings.openai_model, settings.openai_dimensions)
        self._timeout = timeout
        # Of the models, only this family can be asked for fewer dimensions; the others refuse the parameter.
        self._dimensions = self.space.dimensions if "text-embedding-3" in self.space.model else openai.omit
        self._client = openai.AsyncOpenAI(
            api_key=key,
            base_url=settings.openai_base_url,
            max_retries=0,
            timeout=openai.Timeout(timeout, connect=10.0),
            # A redirect would carry the text of files to an address that nobody has set.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` in cl100k; text that looks like a special token counts as text."""
        return toktok.batch_count([text], threads=1)[0]

    async def embed(self, texts: Sequence[str], *, spend: Spend = free, keep: Keep = unkept) -> Vectors:
        """See Embedder. Raises PassageRefused naming the one text that is empty, too long or refused by the server."""
        counts = await asyncio.to_thread(toktok.batch_count, texts)
        check_texts(texts, counts, self.max_tokens)
        vectors = np.empty((len(texts), self.space.dimensions), dtype=np.float32)

        async def fill(start: int, end: int) -> None:
            """Embed texts[start:end] into those rows; one that is refused, or larger than the limit, is halved."""
            try:
                vectors[start:end] = await self._request(texts[start:end], sum(counts[start:end]), spend)
            except TooMuch:
                pass
            except Refused as refused:
                if end - start == 1:
                    raise await self._blamed(start, refused, spend) from None
            else:
                await keep(start, vectors[start:end])
                return
            middle = (start + end) // 2
            await fill(start, middle)
            await fill(middle, end)

        for start, end in pack(texts, counts):
            await fill(start, end)
        return vectors

    async def warm_up(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        await self._client.close()

    async def _blamed(self, place: int, refused: Refused, spend: Spend) -> JobError:
        """Is it this text, or would the server refuse any? The second is a setting, and costs no file its life."""
        try:
            await self._request([PROBE], 1, spend)
        except Refused as also:
            return settings_refused(self.provider, also.detail)
        return PassageRefused(
            "The embedding service refuses a passage of this file.", index=place, detail=refused.detail
        )

    async def _request(self, texts: Sequence[str], tokens: int, spend: Spend) -> Vectors:
        async with spend(inputs=len(texts), tokens=tokens) as call:
            return await self._answer(texts, call)

    async def _answer(self, texts: Sequence[str], call: Call) -> Vectors:
        try:
            async with asyncio.timeout(self._timeout):
                # Asked for by name, base64 reaches us undecoded and skips a list of Python floats per vector.
                raw = await self._client.embeddings.with_raw_response.create(
                    input=list(texts), model=self.space.model, dimensions=self._dimensions, encoding_format="base64"
                )
            call.begun = True
            call.tell(raw.headers)
            answer = raw.parse()
            if (tokens := billed(getattr(answer.usage, "total_tokens", None))) is not None:
                call.tokens = int(tokens)
            rows = sorted(answer.data, key=lambda item: item.index)
            if [item.index for item in rows] != list(range(len(texts))):
                raise malformed(self.provider, f"{len(rows)} vectors for {len(texts)} texts, or out of order")
            vectors = [_decode(item.embedding) for item in rows]
            if len(lengths := {len(vector) for vector in vectors}) == 1 and lengths.isdisjoint(
                {0, self.space.dimensions}
            ):
                raise settings_refused(
                    self.provider,
                    f"the vectors of {self.space.model} have {lengths.pop()} dimensions, and "
                    f"UPLOAD_PIPELINE_OPENAI_DIMENSIONS says {self.space.dimensions}",
                )
            return unit_vectors(
                vectors,
                provider=self.provider,
                count=len(texts),
                dimensions=self.space.dimensions,
            )
        except TimeoutError:
            raise outage(self.provider, f"no complete answer in {self._timeout:g} s") from None
        except (openai.OpenAIError, OSError) as error:
            raise job_error(self.provider, error) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise malformed(self.provider, type(error).__name__) from None


def pack(texts: Sequence[str], counts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Cut `texts`, whose token counts are `counts`, into ranges [start, end) that each fit one request."""
    start, tokens, size = 0, 0, 0.0
    for index, count in enumerate(counts):
        weight = len(texts[index].encode()) * TOKENS_PER_BYTE
        full = index - start == MAX_INPUTS or max(tokens + count, size + weight) > MAX_REQUEST_TOKENS
        if full and index > start:
            yield start, index
            start, tokens, size = index, 0, 0.0
        tokens, size = tokens + count, size + weight
    if start < len(texts):
        yield start, len(texts)


def _decode(embedding: object) -> Sequence[float] | np.ndarray:
    """Little-endian float32 in base64, as asked for; a list of numbers from servers that know only that."""
    if isinstance(embedding, str):
        try:
            return np.frombuffer(base64.b64decode(embedding, validate=True), dtype="<f4")
        except binascii.Error:
            raise malformed("openai", "an embedding is not base64") from None
    return embedding  # type: ignore[return-value]
