"""Whether the relabelling queue puts planted errors first, and whether an audit sees how many there are.

    RELGRADE_DATA=FOLDER python -m benchmarks.audit_planted [--output benchmarks/results/audit_planted.json]

People's labels of the test pairs of a collection, ambiguous ones left out, stand for the truth; a teacher is made from
them by turning some around. Three teachers: `one` says 0 or 1 and is wrong on a share of the pairs drawn at random;
`soft` gives probabilities and is wrong more often where it is unsure, as models are; `three` are three of the first
kind that err apart, of which the majority is taken and the disagreement kept. The queue is made as `relgrade audit
relabel` makes it, from words alone and, with --bundle, from the logits of a grader that has not seen the collection. An
audit of 200 pairs, drawn and "judged" by the truth, is held against what was planted. Only numbers are written; the
last line is JSON.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import read_labelled, texts_of
from benchmarks.scorers import CachedScores, GraderScorer
from relgrade.audit.annotations import Annotation
from relgrade.audit.cases import draw_sample
from relgrade.audit.report import audit_labels
from relgrade.audit.suspects import suspect_labels
from relgrade.metrics import auroc, average_precision
from relgrade.records import Pair

COLLECTIONS = ("climate_fever", "trec_dl21")
TEACHERS = ("one", "soft", "three")
SHARES_WRONG = (0.05, 0.1, 0.2)
N_JUDGED = 200
DEPTHS = (50, 200)


def make_teacher(
    gold: Sequence[Pair], kind: str, *, share_wrong: float, generator: np.random.Generator
) -> tuple[list[Pair], NDArray[np.bool_]]:
    """The pairs with a teacher's labels, and where its verdict is wrong, shape (n_pairs,)."""
    truth = np.asarray([pair.label for pair in gold]) >= 0.5
    disagreement = np.zeros(truth.size)
    if kind == "soft":
        # Log-odds around the truth, spread so that a share `share_wrong` lies on the wrong side.
        spread = 2.0 / -NormalDist().inv_cdf(share_wrong)
        label = 1.0 / (1.0 + np.exp(-(np.where(truth, 2.0, -2.0) + spread * generator.normal(size=truth.size))))
    else:
        votes = truth ^ (generator.random((1 if kind == "one" else 3, truth.size)) < share_wrong)
        label = (votes.mean(axis=0) >= 0.5).astype(float)
        disagreement = 2.0 * np.minimum(votes.mean(axis=0), 1.0 - votes.mean(axis=0))
    fields = [{"disagreement": float(value)} if kind == "three" else {} for value in disagreement]
    pairs = [
        replace(pair, label=float(value), fields=extra) for pair, value, extra in zip(gold, label, fields, strict=True)
    ]
    return pairs, (label >= 0.5) != truth


def measure_queue(
    pairs: Sequence[Pair], is_wrong: NDArray[np.bool_], *, logits: NDArray[np.float64] | None
) -> dict[str, float]:
    """How well the queue ranks the planted errors."""
    suspicion = suspect_labels(pairs, logits=logits)
    verdict = np.asarray([pair.label for pair in pairs]) >= 0.5
    found = {
        "average_precision": average_precision(suspicion.wrong, is_wrong),
        "auroc": auroc(suspicion.wrong, is_wrong),
        "student_auroc": auroc(suspicion.student, verdict),
        "n_likely_wrong": float(suspicion.n_likely_wrong),
        "found_in_first_fifth": float(is_wrong[suspicion.order[: len(pairs) // 5]].sum() / is_wrong.sum()),
    }
    return found | {f"precision_at_{k}": float(is_wrong[suspicion.order[:k]].mean()) for k in DEPTHS}


def measure_audit(
    pairs: Sequence[Pair], gold: Sequence[Pair], is_wrong: NDArray[np.bool_], *, seed: int
) -> dict[str, Any]:
    """What an audit of `N_JUDGED` pairs says beside what is so."""
    n_queries = len({pair.query_id for pair in pairs})
    sample = draw_sample(pairs, n=N_JUDGED, seed=seed, per_query=max(3, -(-2 * N_JUDGED // n_queries)))
    truth = {(pair.query_id, pair.doc_id): int((pair.label or 0.0) >= 0.5) for pair in gold}
    answers = [
        Annotation("gold", truth[entry.query_id, entry.doc_id], "binary", case=entry.case, sample=sample.key.sample)
        for entry in sample.key.entries
    ]
    report = audit_labels(pairs, answers, key=sample.key)
    people = float(np.mean(list(truth.values())))
    share = report.prevalence.corrected
    return {
        "share_wrong_true": float(is_wrong.mean()),
        "share_wrong_audited": report.teacher.teacher_only + report.teacher.people_only,
        "kappa": report.teacher.kappa.value,
        "kappa_low": report.teacher.kappa.low,
        "kappa_high": report.teacher.kappa.high,
        "prevalence_true": people,
        "prevalence_teacher": report.prevalence.teacher_alone,
        "prevalence_corrected": share.value,
        "prevalence_low": share.low,
        "prevalence_high": share.high,
        "can_train": report.verdict.can_train,
        "can_set_point": report.verdict.can_set_point,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELGRADE_DATA", ".")))
    parser.add_argument("--bundle", help="grader for the second queue; `default` is the embedded one")
    parser.add_argument("--cache", type=Path, default=Path("runs/quality"), help="of scores, shared with quality")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args(arguments)
    start, collections = time.perf_counter(), {}
    grader = None if options.bundle is None else _load(options.bundle)
    for collection in read_labelled(options.data, names=COLLECTIONS).tests:
        logits = None
        if grader is not None:
            scorer, texts = GraderScorer(grader), texts_of(collection.pairs)
            logits = CachedScores(options.cache).get(scorer, texts, collection.corpus, lambda n: None)
        found = measure_collection(collection.pairs, logits, seed=options.seed, name=collection.name)
        collections[collection.name] = found
    result = {
        "seed": options.seed,
        "bundle": None if grader is None else grader.bundle.hash,
        "seconds": round(time.perf_counter() - start, 1),
        "python": platform.python_version(),
        "collections": collections,
    }
    if options.output is not None:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def _load(bundle: str) -> Any:
    from relgrade import Grader

    return Grader.load() if bundle == "default" else Grader.load(bundle)


def measure_collection(
    gold: Sequence[Pair], logits: NDArray[np.float64] | None, *, seed: int, name: str
) -> dict[str, Any]:
    """All teachers of one collection."""
    runs = []
    for kind in TEACHERS:
        for share_wrong in SHARES_WRONG:
            generator = np.random.default_rng(seed)
            pairs, is_wrong = make_teacher(gold, kind, share_wrong=share_wrong, generator=generator)
            queues = {"words": measure_queue(pairs, is_wrong, logits=None)}
            if logits is not None:
                queues["words and grader"] = measure_queue(pairs, is_wrong, logits=logits)
            audit = measure_audit(pairs, gold, is_wrong, seed=seed)
            runs.append({"teacher": kind, "planted": share_wrong, "queues": queues, "audit": audit})
            ranked = ", ".join(f"{each} AP {found['average_precision']:.3f}" for each, found in queues.items())
            print(
                f"{name} {kind:<6} wrong {is_wrong.mean():.3f}: {ranked}; audit {audit['share_wrong_audited']:.3f}, "
                f"kappa {audit['kappa']:.2f}, relevant {audit['prevalence_corrected']:.3f} for "
                f"{audit['prevalence_true']:.3f}"
            )
    n_queries = len({pair.query_id for pair in gold})
    return {"n_pairs": len(gold), "n_queries": n_queries, "runs": runs}


if __name__ == "__main__":
    raise SystemExit(main())
