"""Sends a bundle's golden pairs to a server, of relgrade or another, and says how far off its answers are.

What a score means is told by the dialect and never guessed from the values: relgrade, TEI, infinity and llama.cpp give
logits, vLLM gives sigmoid(logit).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import httpx
import numpy as np
from numpy.typing import NDArray

from relgrade.bundle import Bundle
from relgrade.client.exchange import Answer, Tries
from relgrade.client.failing import ServerError
from relgrade.client.settings import require_base_url
from relgrade.errors import InvalidInput
from relgrade.probability import calibrated_probability, sigmoid

Dialect = Literal["relgrade", "tei", "vllm", "infinity", "llama.cpp"]
MAX_DOCUMENTS = 32  # of one request: what TEI takes unless told otherwise

_PATHS: Mapping[Dialect, str] = {
    "relgrade": "/v1/grade",
    "tei": "/rerank",
    "vllm": "/v1/rerank",
    "infinity": "/rerank",
    "llama.cpp": "/v1/rerank",
}
_PROBABILITIES = frozenset({"vllm"})  # their scores are sigmoid(logit)
_SATURATED = 1e-12  # a score nearer to 0 or 1 has no logit; float32 gives up far earlier


@dataclass(frozen=True, slots=True)
class ServerReport:
    """How a server's answers differ from what the bundle said when it was made."""

    n_pairs: int
    scale: Literal["logit", "sigmoid"]  # of the differences
    differences: tuple[float, ...]  # absolute, one per golden pair
    flips: tuple[int, ...]  # positions of the pairs whose verdict at the default point is another one

    @property
    def worst(self) -> int:
        """Position of the largest difference."""
        return int(np.argmax(self.differences))

    @property
    def largest_difference(self) -> float:
        """Over all pairs."""
        return self.differences[self.worst]


def verify_server(
    url: str, bundle: Bundle, *, dialect: Dialect = "relgrade", api_key: str | None = None, timeout_s: float = 60.0
) -> ServerReport:
    """Hold a server against a bundle.

    Args:
        url: of the server, without the route.
        bundle: whose golden pairs are sent, and whose default point judges.
        dialect: what the server speaks.
        api_key: sent as a bearer token.
        timeout_s: for one query with its documents.

    Raises:
        InvalidInput: no such dialect, no URL of a server, or the server refuses the pairs as wrong.
        ServerError: it does not answer, or not in this dialect.
    """
    if dialect not in get_args(Dialect):
        raise InvalidInput(f"dialect is one of {', '.join(get_args(Dialect))}, got {dialect!r}")
    require_base_url(url)
    rows_of: dict[str, list[int]] = {}
    for row, golden in enumerate(bundle.goldens):
        rows_of.setdefault(golden.query, []).append(row)
    scores = np.full(len(bundle.goldens), np.nan)
    headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
    with httpx.Client(base_url=url, headers=headers, follow_redirects=False) as http:
        for query, rows in rows_of.items():
            for start in range(0, len(rows), MAX_DOCUMENTS):
                part = rows[start : start + MAX_DOCUMENTS]
                texts = [bundle.goldens[row].document for row in part]
                scores[part] = _ask(http, dialect, query, texts, timeout_s=timeout_s)
    return _report(bundle, scores, is_probability=dialect in _PROBABILITIES)


def _report(bundle: Bundle, scores: NDArray[np.float64], *, is_probability: bool) -> ServerReport:
    manifest = bundle.manifest
    expected = np.array([golden.logit for golden in bundle.goldens])
    if is_probability:
        clipped = np.clip(scores, _SATURATED, 1 - _SATURATED)
        logits = np.log(clipped) - np.log1p(-clipped)
        differences = np.abs(scores - sigmoid(expected))
    else:
        logits, differences = scores, np.abs(scores - expected)
    threshold = manifest.point().threshold
    found = calibrated_probability(manifest.calibration, logits) >= threshold
    wanted = calibrated_probability(manifest.calibration, expected) >= threshold
    flips = tuple(int(i) for i in np.flatnonzero(found != wanted))
    return ServerReport(len(scores), "sigmoid" if is_probability else "logit", tuple(differences.tolist()), flips)


def _ask(
    http: httpx.Client, dialect: Dialect, query: str, texts: Sequence[str], *, timeout_s: float
) -> NDArray[np.float64]:
    body: dict[str, Any] = {"query": query, "documents": list(texts)}
    if dialect == "tei":
        body = {"query": query, "texts": list(texts), "raw_scores": True, "truncate": True}
    elif dialect == "infinity":
        body["raw_scores"] = True
    elif dialect in ("vllm", "llama.cpp"):
        body["top_n"] = len(texts)
    tries = Tries(retries=2, timeout_s=timeout_s)
    while True:
        answer = None
        try:
            response = http.post(_PATHS[dialect], json=body, timeout=max(tries.remaining_s, 0.001))
            answer = Answer(response.status_code, response.headers, response.content)
        except httpx.HTTPError as error:
            tries.after_breakdown(error)
        if answer is not None and (told := tries.body_of(answer)) is not None:
            return _scores(told, dialect, len(texts))
        time.sleep(min(tries.wait_s(answer), tries.remaining_s))
        tries.count()


def _scores(told: Any, dialect: Dialect, n: int) -> NDArray[np.float64]:
    """Scores in the order of the documents."""
    name = {"relgrade": "logit", "tei": "score"}.get(dialect, "relevance_score")
    try:
        rows = told if dialect == "tei" else told["results"]
        scores = np.full(n, np.nan)
        for row in rows:
            scores[row["index"]] = row[name]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ServerError(
            f"the reply is not one of {dialect} ({type(error).__name__}: {error}); name another dialect"
        ) from error
    if not np.isfinite(scores).all():
        raise ServerError(
            f"the reply has no number for document {int(np.argmin(np.isfinite(scores)))}", reason="backend"
        )
    return scores
