"""What the quality benchmark compares: each scorer turns (query, document) texts into logits, with a cache on disk."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relgrade.bundle.schema import TOKENIZER_NAME
from relgrade.errors import InvalidInput, MissingExtra
from relgrade.evaluate.baselines import BM25

Texts = Sequence[tuple[str, str]]
Advance = Callable[[int], None]  # told how many pairs were finished
CHUNK = 256


class Scorer(Protocol):
    """Scores pairs of one collection. `key` changes whenever the scores could."""

    name: str
    key: str

    def score(self, texts: Texts, corpus: Sequence[str], advance: Advance) -> NDArray[np.float64]:
        """One score a pair, larger is more relevant, shape (n_pairs,)."""
        ...


@dataclass(slots=True)
class CachedScores:
    """Scores of a scorer, kept in `folder` and read back when scorer, texts and corpus are the same."""

    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)  # by scorer, spent on scoring in this run
    n_scored: dict[str, int] = field(default_factory=dict)  # by scorer, pairs scored in this run

    def costs(self) -> dict[str, Any]:
        """Seconds and pairs of each scorer in this run; what came from the cache cost none."""
        seconds = {name: round(value, 1) for name, value in self.seconds.items()}
        return {"scoring_seconds": seconds, "pairs_scored": dict(self.n_scored)}

    def get(self, scorer: Scorer, texts: Texts, corpus: Sequence[str], advance: Advance) -> NDArray[np.float64]:
        """The scores, shape (n_pairs,)."""
        path = self.folder / scorer.name / f"{_digest([scorer.key, [*map(list, texts)], list(corpus)])}.npy"
        if path.is_file():
            advance(len(texts))
            return np.asarray(np.load(path, allow_pickle=False), dtype=np.float64)
        start = time.perf_counter()
        scores = scorer.score(texts, corpus, advance)
        self.seconds[scorer.name] = self.seconds.get(scorer.name, 0.0) + time.perf_counter() - start
        self.n_scored[scorer.name] = self.n_scored.get(scorer.name, 0) + len(texts)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part.npy")
        np.save(partial, scores, allow_pickle=False)
        partial.replace(path)
        return scores


class GraderScorer:
    """The grader under test.

    Args:
        grader: a loaded `relgrade.Grader`.
    """

    name = "grader"

    def __init__(self, grader: Any) -> None:
        self.grader = grader
        # What logits depend on: a bundle that was only calibrated again keeps its scores.
        manifest = grader.bundle.manifest
        parts = [*manifest.graphs.values(), TOKENIZER_NAME]
        files = {name: manifest.files[name].sha256 for name in parts}
        self.key = _digest([manifest.architecture, manifest.template, manifest.options, files])

    def score(self, texts: Texts, corpus: Sequence[str], advance: Advance) -> NDArray[np.float64]:
        """Logits, before calibration."""
        logits: list[float] = []
        for start in range(0, len(texts), CHUNK):
            chunk = list(texts[start : start + CHUNK])
            logits.extend(grade.logit for grade in self.grader.grade_pairs(chunk))
            advance(len(chunk))
        return np.asarray(logits, dtype=np.float64)


class BM25Scorer:
    """BM25 over the distinct documents of the collection's file."""

    name = "bm25"
    key = "bm25s defaults, English stop words"

    def score(self, texts: Texts, corpus: Sequence[str], advance: Advance) -> NDArray[np.float64]:
        """BM25 scores."""
        scores = BM25(corpus).score(texts)
        advance(len(texts))
        return scores


class CosineScorer:
    """Cosine of the mean-pooled vectors of an untouched sentence encoder (all-MiniLM-L6-v2), 256 tokens a text.

    Args:
        folder: config.json, tokenizer.json and model.safetensors of the encoder.
        n_threads: of torch.
    """

    name = "cosine"
    max_tokens = 256  # what the published model reads
    batch = 32

    def __init__(self, folder: Path, *, n_threads: int) -> None:
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise InvalidInput(f"{folder} has no model.safetensors; expected a folder of a Hugging Face encoder")
        try:
            import torch
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils import logging
        except ImportError as error:
            raise MissingExtra("torch", extra="train", purpose="run the cosine baseline") from error
        self.sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
        self.key = f"{self.sha256} mean pooling, {self.max_tokens} tokens"
        torch.set_num_threads(n_threads)
        logging.disable_progress_bar()  # ours is on the screen
        self._torch = torch
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()

    def score(self, texts: Texts, corpus: Sequence[str], advance: Advance) -> NDArray[np.float64]:
        """Cosines in [-1, 1]; each distinct text is read once."""
        distinct = list(dict.fromkeys(text for pair in texts for text in pair))
        order = sorted(range(len(distinct)), key=lambda i: len(distinct[i]))  # batches of like length: little padding
        vectors = np.zeros((len(distinct), int(self._model.config.hidden_size)))
        told = 0
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            vectors[rows] = self._vectors([distinct[row] for row in rows])
            done = len(texts) * (start + len(rows)) // len(order)
            advance(done - told)
            told = done
        row_of = {text: row for row, text in enumerate(distinct)}
        queries, documents = (vectors[[row_of[pair[side]] for pair in texts]] for side in (0, 1))
        return np.asarray((queries * documents).sum(axis=1), dtype=np.float64)

    def _vectors(self, texts: list[str]) -> NDArray[np.float64]:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt")
        with self._torch.inference_mode():
            states = self._model(**inputs).last_hidden_state  # (n_texts, n_tokens, n_hidden)
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        mean = ((states * mask).sum(1) / mask.sum(1)).double()
        vectors: NDArray[np.float64] = (mean / mean.norm(dim=1, keepdim=True)).numpy()
        return vectors


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode("utf-8", "surrogatepass")).hexdigest()[:24]
