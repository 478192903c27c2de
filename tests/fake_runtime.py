"""A model that is a hash of its text, and a bundle around it: for tests of everything but models."""

import hashlib

import numpy as np

from relgrade.bundle import GoldenPair, Manifest, goldens_to_bytes, write_bundle
from relgrade.grade.runtime import RuntimeOutput
from relgrade.records import Calibration, OperatingPoint

NAN_WORD = "nanword"  # a document with it gets NaN
INF_WORD = "infword"  # and with it an infinity
MAX_CHARACTERS = 1000  # beyond them a document is truncated
GOLDENS = (("what is up", "the sky is up"), ("what is down", "title: Down\nthe floor"))


def fake_logit(query, document):
    digest = hashlib.sha256(f"{query}\0{document}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 * 12 - 6


class FakeRuntime:
    def __init__(self, *, shift=0.0):
        self.calls = []  # pairs of each call
        self.counted = []  # texts that were counted
        self.shift = shift

    @classmethod
    def from_bundle(cls, bundle, *, n_threads):
        runtime = cls()
        runtime.n_threads = n_threads
        return runtime

    def score(self, pairs):
        self.calls.append(list(pairs))
        logits = [fake_logit(*pair) + self.shift for pair in pairs]
        for i, (_, document) in enumerate(pairs):
            assert document.strip(), "a blank document reached the model"
            document.encode("utf-8")  # a lone surrogate fails here
            if NAN_WORD in document or INF_WORD in document:
                logits[i] = np.nan if NAN_WORD in document else np.inf
        lengths = np.array([len(document) for _, document in pairs])
        return RuntimeOutput(np.array(logits), lengths > MAX_CHARACTERS, 1 + lengths // MAX_CHARACTERS)

    def count_tokens(self, texts):
        self.counted.extend(texts)
        return [len(text.split()) for text in texts]


def fake_manifest(**changes):
    values = {
        "name": "fake",
        "architecture": "cross-encoder",
        "rubric": "answer-bearing",
        "graphs": {"model": "model.int8.onnx"},
        "template": {"prefix": [101], "max_tokens": 64},
        "calibration": Calibration("platt", 1.5, -0.25, {"n_queries": 40}),
        "operating_points": (OperatingPoint("balanced", 0.5, {"f1": 0.8}), OperatingPoint("strict", 0.9)),
        "default_point": "balanced",
        "relgrade_version": "0.1.0",
        "licence": "Apache-2.0",
    }
    return Manifest(**{**values, **changes})


def fake_files():
    goldens = [GoldenPair(query, document, fake_logit(query, document)) for query, document in GOLDENS]
    return {
        "model.int8.onnx": b"\x08\x07graph",
        "tokenizer.json": b"{}",
        "goldens.jsonl": goldens_to_bytes(goldens),
        "LICENSE": b"Apache License\n",
    }


def fake_bundle(folder, **changes):
    return write_bundle(folder, fake_manifest(**changes), fake_files())
