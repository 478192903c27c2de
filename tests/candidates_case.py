"""A small corpus with its queries, and an encoder of words; as a program it makes candidates of a folder's case."""

import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from relgrade.candidates import CandidateSettings, Mix, make_candidates


class WordEncoder:
    """The sum of a random direction per word: texts of common words are near, and nothing is trained."""

    dimension = 32

    def __init__(self, name="words", delay_s=0.0):
        self.name, self._delay_s = name, delay_s
        self.n_texts = 0
        self.tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        self.tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()

    def encode(self, texts, *, kind):
        time.sleep(self._delay_s)
        self.n_texts += len(texts)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text):
        total = np.full(self.dimension, 1e-3)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")
            total += np.random.default_rng(seed).normal(size=self.dimension)
        return (total / np.linalg.norm(total)).astype(np.float32)


def write_case(folder, *, n_queries, n_documents):
    """`queries.jsonl`, each made of words of the document of its number, and `corpus.jsonl` with a blank and a copy."""
    rng = np.random.default_rng(0)
    words = [f"{first}{last}" for first in ("red", "sea", "hill", "cat") for last in ("ing", "er", "ly", "ness", "s")]
    words += [f"word{i}" for i in range(60)]
    texts = [" ".join(rng.choice(words, size=12)) for _ in range(n_documents)]
    documents = [{"id": f"d{i}", "text": text, "n": i} for i, text in enumerate(texts)]
    documents += [{"id": "blank", "text": " "}, documents[3]]
    queries = [{"id": f"q{i}", "query": " ".join(texts[i].split()[:9])} for i in range(n_queries)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    here = Path(sys.argv[1])
    make_candidates(
        here / "queries.jsonl",
        here / "corpus.jsonl",
        here / sys.argv[2],
        settings=CandidateSettings(mix=Mix(top=3, mid=2, random=2), depth=20),
        encoder=WordEncoder(delay_s=float(os.environ["ENCODER_DELAY_S"])),
    )
