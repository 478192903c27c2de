"""Does length alone have a document kept? Documents of 1 to 32 parts, before and after the correction for their number.

    python -m benchmarks.long_documents --data FOLDER [--passages N]

Paragraphs of Wikipedia articles that have nothing to do with the questions are joined to long documents and read part
by part, as a grader reads them. A document is `irrelevant` as it is; `relevant` or a `near miss` where one test passage
of nq_oracle or squad2_dev stands at a random place of one part in place of paragraphs that make room. All parts of a
document but that one are those of the irrelevant document, so that they are read once for all passages. No document has
a title. The correction is fitted on the passages of one half and measured on those of the other. Last line: JSON.
"""

import argparse
import gzip
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import SUFFIX
from relgrade.bundle import Bundle
from relgrade.encoding import clean_text
from relgrade.grade.long_documents import LongDocumentRuntime
from relgrade.grade.parts import split_document
from relgrade.probability import calibrated_probability, sigmoid

ROOT = Path(__file__).resolve().parent.parent
FILES = ("nq_oracle", "squad2_dev")
N_PARTS = (1, 2, 4, 8, 16, 32)
GRID = np.arange(0.0, 2.001, 0.02)  # of logits that a doubling may cost
N_STEPS, N_DRAWS = 20, 2000
TINY = 1e-12
BREAK = "\n\n"


@dataclass(frozen=True, slots=True)
class Passage:
    """A labelled passage with its question."""

    query: str
    body: str
    label: int
    gold: frozenset[str] = frozenset()  # bodies of all passages that are relevant to the question


@dataclass(frozen=True, slots=True)
class Logits:
    """Raw, uncorrected, of each passage's documents."""

    labels: NDArray[np.int64]  # (n_passages,)
    alone: NDArray[np.float64]  # (n_passages,) of the passage by itself
    within: NDArray[np.float64]  # (n_passages,) of the part that the passage stands in
    others: NDArray[np.float64]  # (n_passages, n_parts) of the parts of the irrelevant document

    def best(self, n_parts: int, *, has_passage: bool) -> NDArray[np.float64]:
        """The best of so many parts, shape (n_passages,)."""
        if not has_passage:
            return np.asarray(self.others[:, :n_parts].max(axis=1))
        return np.concatenate([self.within[:, None], self.others[:, : n_parts - 1]], axis=1).max(axis=1)


def main(arguments: Sequence[str] | None = None, *, bundle: Any = None, runtime: Any = None) -> int:
    """Run the experiment. `bundle` and `runtime` stand in for the embedded grader, for tests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_documents")
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    parser.add_argument("--passages", type=int, default=40, help="passages of each label")
    parser.add_argument("--documents", type=int, default=2, help="irrelevant documents")
    parser.add_argument("--seed", type=int, default=0)
    output = ROOT / "benchmarks" / "results" / "long_documents.json"
    parser.add_argument("--output", type=Path, default=output, help="report to write")
    options = parser.parse_args(arguments)
    if runtime is None:
        from relgrade.bundle import load_bundle
        from relgrade.grade.grader import DEFAULT_BUNDLE
        from relgrade.grade.runtimes import load_runtime

        bundle = load_bundle(DEFAULT_BUNDLE)
        runtime = load_runtime(bundle, n_threads=1)
    rng = np.random.default_rng(options.seed)
    passages, fillers = _read(options.data, options.passages, rng)
    logits = measure(passages, fillers, runtime, n_documents=options.documents, rng=rng)
    report = make_report(logits, bundle, shipped=runtime.correction.per_doubling, seed=options.seed)
    report |= {"bundle_hash": bundle.hash, "n_documents": options.documents}
    print(_table(report))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    names = ("bundle_hash", "per_doubling", "per_doubling_shipped", "log_loss_before", "log_loss_after")
    print(json.dumps({name: report[name] for name in names}))
    return 0


def measure(
    passages: Sequence[Passage],
    fillers: Sequence[str],
    runtime: LongDocumentRuntime,
    *,
    n_documents: int,
    rng: np.random.Generator,
) -> Logits:
    """Read everything; each part of an irrelevant document once, whoever asks.

    Args:
        passages: with their questions; those whose answer stands in their irrelevant document are left out.
        fillers: paragraphs, used in turn and never twice in a document.
        runtime: its reader reads the parts.
        n_documents: irrelevant documents; passage i is put into document i modulo their number.
        rng: for places.
    """
    reader = runtime.reader
    labels = np.array([passage.label for passage in passages])
    alone = reader.score([(each.query, each.body) for each in passages]).logits
    within = np.empty(len(passages))
    others = np.empty((len(passages), max(N_PARTS)))
    is_clean = np.ones(len(passages), np.bool_)  # the irrelevant document holds no passage that answers
    for document in range(n_documents):
        rows = list(range(document, len(passages), n_documents))
        room = reader.room(max((passages[i].query for i in rows), key=len))
        n_enough = np.cumsum(reader.count_tokens(fillers[document::n_documents])) <= (max(N_PARTS) + 1) * room.tokens
        text = BREAK.join(fillers[document::n_documents][: int(n_enough.sum()) + 1])
        parts = split_document(text, room, count_tokens=reader.count_tokens).parts[: max(N_PARTS)]
        pairs = [(passages[i].query, part.text) for i in rows for part in parts]
        others[rows] = reader.score(pairs).logits.reshape(len(rows), len(parts))
        for i in rows:
            is_clean[i] = not any(body in text for body in passages[i].gold)
        for i in rows:
            host = parts[int(rng.integers(len(parts)))].text
            mixed = put_in(passages[i].body, host, room.tokens, runtime, rng)
            within[i] = reader.score([(passages[i].query, mixed)]).logits[0]
    return Logits(labels[is_clean], alone[is_clean], within[is_clean], others[is_clean])


def put_in(body: str, host: str, n_tokens: int, runtime: LongDocumentRuntime, rng: np.random.Generator) -> str:
    """The host with a passage at a random place among its paragraphs; the last ones that are not it make room."""
    paragraphs = host.split(BREAK)
    place = int(rng.integers(len(paragraphs) + 1))
    before, after = paragraphs[:place], paragraphs[place:]
    while True:
        text = BREAK.join([*before, body, *after])
        if runtime.count_tokens([text])[0] <= n_tokens or not (before or after):
            return text
        (after or before).pop()


def fit_correction(logits: Logits, bundle: Bundle, rows: NDArray[np.bool_]) -> float:
    """Logits that a doubling costs: lowest log loss at the share of relevant documents that the bundle is made for.

    An intercept for all lengths is fitted beside it: how far the bundle is off on these passages is not its business.

    Args:
        logits: of all passages.
        bundle: its calibration turns logits into probabilities.
        rows: passages to fit on, shape (n_passages,).
    """
    losses = [_loss(logits, bundle, rows, float(cost), has_intercept=True) for cost in GRID]
    return float(GRID[int(np.argmin(losses))])


def make_report(logits: Logits, bundle: Bundle, *, shipped: float, seed: int) -> dict[str, Any]:
    """What the documents of the second half of the passages get, as JSON."""
    is_first = np.arange(len(logits.labels)) % 2 == 0
    cost, other = (fit_correction(logits, bundle, rows) for rows in (is_first, ~is_first))
    losses = [_loss(logits, bundle, ~is_first, each, has_intercept=False) for each in (0.0, cost)]
    rows = []
    for n in N_PARTS:
        row: dict[str, Any] = {"parts": n}
        for name, label in (("irrelevant", None), ("near_miss", 0), ("relevant", 1)):
            chosen = ~is_first & (True if label is None else logits.labels == label)
            best = logits.best(n, has_passage=label is not None)[chosen]
            row[name] = _shares(best, cost * np.log2(n), bundle, seed=seed)
            if label is not None:  # what a grader that stops after the first part keeps, wherever the passage stands
                first = [logits.within[chosen], logits.others[chosen, 0]]
                kept = [float(np.mean(_is_kept(each, bundle))) for each in first]
                row[name]["first_part_only"] = kept[0] / n + kept[1] * (1 - 1 / n)
        rows.append(row)
    alone = {
        name: float(np.mean(_is_kept(logits.alone[~is_first & (logits.labels == label)], bundle)))
        for name, label in (("near_miss", 0), ("relevant", 1))
    }
    return {
        "n_passages": {"fit": int(is_first.sum()), "measured": int((~is_first).sum())},
        "operating_point": bundle.manifest.point().name,
        "per_doubling": cost,
        "per_doubling_other_half": other,
        "per_doubling_shipped": shipped,
        "log_loss_before": losses[0],
        "log_loss_after": losses[1],
        "kept_alone": alone,
        "rows": rows,
    }


def _shares(best: NDArray[np.float64], cost: float, bundle: Bundle, *, seed: int) -> dict[str, Any]:
    draws = np.random.default_rng(seed).integers(0, len(best), (N_DRAWS, len(best)))
    found: dict[str, Any] = {}
    for name, logits in (("before", best), ("after", best - cost)):
        is_kept = _is_kept(logits, bundle)
        low, high = np.quantile(is_kept[draws].mean(axis=1), [0.025, 0.975])
        probability = float(calibrated_probability(bundle.manifest.calibration, logits).mean())
        found[name] = {"kept": float(is_kept.mean()), "low": float(low), "high": float(high)}
        found[name]["probability"] = probability
    return found


def _is_kept(logits: NDArray[np.float64], bundle: Bundle) -> NDArray[np.bool_]:
    manifest = bundle.manifest
    return np.asarray(calibrated_probability(manifest.calibration, logits) >= manifest.point().threshold)


def _loss(logits: Logits, bundle: Bundle, rows: NDArray[np.bool_], cost: float, *, has_intercept: bool) -> float:
    """Mean log loss over lengths: relevant documents at the bundle's share, the others half near misses."""
    share = bundle.manifest.calibration.prevalence or 0.5
    odds, labels, weights = [], [], []
    for n in N_PARTS:
        for label, has_passage, weight in ((1, True, share), (0, True, (1 - share) / 2), (0, False, (1 - share) / 2)):
            chosen = rows & (logits.labels == label) if has_passage else rows
            best = logits.best(n, has_passage=has_passage)[chosen] - cost * np.log2(n)
            told = np.clip(calibrated_probability(bundle.manifest.calibration, best), TINY, 1 - TINY)
            odds.append(np.log(told) - np.log1p(-told))
            labels.append(np.full(len(best), float(label)))
            weights.append(np.full(len(best), weight / max(len(best), 1) / len(N_PARTS)))
    x, y, w = (np.concatenate(each) for each in (odds, labels, weights))
    shift = 0.0
    for _ in range(N_STEPS if has_intercept else 0):  # Newton's steps
        p = np.asarray(sigmoid(x + shift))
        shift += float(np.clip((w * (y - p)).sum() / max((w * p * (1 - p)).sum(), 1e-9), -1, 1))
    return float((w * (np.logaddexp(0, x + shift) - y * (x + shift))).sum())


def _read(folder: Path, n_passages: int, rng: np.random.Generator) -> tuple[list[Passage], list[str]]:
    """Passages of each label in turn, half of them of each file, and the paragraphs of articles that none is from."""
    passages, titles, paragraphs = [], set(), {}
    for file in FILES:
        with gzip.open(folder / f"{file}{SUFFIX}", "rt", encoding="utf-8") as lines:
            everything = [json.loads(line) for line in lines]
        rows = [row for row in everything if row["split"] == "test"]
        gold: dict[str, set[str]] = {}
        for row in everything:
            title, _, body = row["document"].partition("\n")
            paragraphs[clean_text(body)] = title
            if row["label"] == 1:
                gold.setdefault(row["query"], set()).add(clean_text(body))
        for label in (1, 0):
            of_label = [row for row in rows if row["label"] == label]
            for i in rng.permutation(len(of_label))[: n_passages // len(FILES)].tolist():
                title, _, body = of_label[i]["document"].partition("\n")
                titles.add(title)
                query = of_label[i]["query"]
                answers = frozenset(gold.get(query, ()))
                passages.append(Passage(clean_text(query), clean_text(body), label, answers))
    fillers = [body for body, title in paragraphs.items() if title not in titles]
    order = rng.permutation(len(passages))  # the halves then hold about as many of each label and file
    return [passages[i] for i in order], [fillers[i] for i in rng.permutation(len(fillers))]


def _table(report: dict[str, Any]) -> str:
    kinds = ("irrelevant", "near_miss", "relevant")
    lines = [
        "| parts | irrelevant kept | corrected | near misses kept | corrected | relevant kept | corrected | first |",
        "|" + " --- |" * 8,
    ]
    for row in report["rows"]:
        cells = [f"{row['parts']}"]
        for kind in kinds:
            for when in ("before", "after"):
                value = row[kind][when]
                cells.append(f"{value['kept']:.2f} [{value['low']:.2f}, {value['high']:.2f}]")
        cells.append(f"{row['relevant']['first_part_only']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
