"""Do verdicts turn when nothing that matters has changed, and can a document be dressed up as relevant?

    python -m benchmarks.stability --data FOLDER [--queries N] [--documents N] [--bundle FOLDER]

Draws test pairs of every collection, rewrites the query or the document (`benchmarks.perturbations`), and counts the
verdicts that flip at the default operating point. Then rewrites irrelevant documents as an attacker would and counts
those that become kept, of those that were not: by the grader at each of its points, and by the cosine of the bundle's
own frozen encoder, at the threshold that kept as many irrelevant documents before the attack. Intervals are drawn by
query. Long documents are left out, and documents rewritten in one of three pairs, for time. The last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks.labelled import read_labelled
from benchmarks.perturbations import ATTACKS, PERTURBATIONS
from benchmarks.stability_measures import Graded, Sample, Variants, measure_attacks, measure_flips, summarise
from benchmarks.stability_tables import attack_table, flip_table
from benchmarks.summaries import environment
from relgrade.records import Pair

ROOT = Path(__file__).resolve().parent.parent

Load = Callable[[str | None], Any]


def main(arguments: Sequence[str] | None = None, *, load: Load | None = None, load_vectors: Load | None = None) -> int:
    """Run the benchmark. `load` and `load_vectors` stand in for `Grader.load` and `TextVectors.load`, for tests."""
    options = _options(arguments)
    start = time.perf_counter()
    sample = draw_sample(options)
    grader, vectors = (load or _load_grader)(options.bundle), (load_vectors or _load_vectors)(options.bundle)
    variants = rewrite_all(sample, every=options.rewrite_every)
    attacked = np.asarray([texts is not None for texts in variants[ATTACKS[0].name]])
    graded = grade_variants(grader, variants, is_quiet=options.quiet)
    plain = [texts if hit else None for texts, hit in zip(sample.texts, attacked, strict=True)]
    cosines = {"": cosine(vectors, plain)} | {each.name: cosine(vectors, variants[each.name]) for each in ATTACKS}
    report: dict[str, Any] = {
        "benchmark": "stability",
        "bundle_hash": grader.bundle.hash,
        "flips": measure_flips(sample, variants, graded),
        "attacks": measure_attacks(sample, graded, cosines, attacked=attacked, thresholds=points(grader)),
        "sample": {
            "collections": len({pair.source for pair in sample.pairs}),
            "queries_per_collection": options.queries,
            "documents_per_query": options.documents,
            "max_characters": options.max_characters,
            "n_documents_left_out_as_longer": sample.n_left_out,
            "n_queries": len({pair.query for pair in sample.pairs}),
            "n_pairs": len(sample.pairs),
            "n_irrelevant": int(sample.is_irrelevant.sum()),
            "documents_rewritten_in_every": options.rewrite_every,
            "n_attacked": int(attacked.sum()),
            "seed": options.seed,
            "n_draws": options.draws,
        },
    }
    summary = summarise(report, default_point=grader.operating_point.name)
    seconds = {"seconds": round(time.perf_counter() - start, 1)}
    report |= {"summary": summary, "environment": {**environment(), **seconds}}
    print(flip_table(report))
    print(attack_table(report))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps(summary, allow_nan=False))
    return 0


def draw_sample(options: argparse.Namespace) -> Sample:
    """Some queries of each collection, with some of their documents, drawn without a look at the labels."""
    labelled = read_labelled(options.data, names=options.files, seed=options.seed, limit_queries=options.queries)
    generator = np.random.default_rng(options.seed)
    drawn: list[Pair] = []
    n_left_out = 0
    for collection in labelled.tests:
        of_query: dict[str, list[Pair]] = {}
        for pair in collection.pairs:
            if len(pair.document) <= options.max_characters:
                of_query.setdefault(pair.query_id, []).append(pair)
            else:
                n_left_out += 1
        for pairs in of_query.values():
            drawn += [pairs[i] for i in sorted(generator.permutation(len(pairs))[: options.documents])]
    return Sample(tuple(drawn), n_left_out, options.draws, options.seed)


def rewrite_all(sample: Sample, *, every: int) -> Variants:
    """The pairs as they are, under "", and by perturbation and attack.

    Args:
        sample: the pairs.
        every: documents are rewritten in each `every`-th pair, because each costs a reading; queries in all.
    """
    found: Variants = {"": list(sample.texts)}
    rows = list(zip(sample.texts, sample.is_irrelevant.tolist(), strict=True))
    for each in PERTURBATIONS:
        step = every if each.part == "document" else 1
        found[f"{each.part}: {each.name}"] = [
            new if i % step == 0 and (bad or not each.only_irrelevant) and (new := each.apply(*old)) != old else None
            for i, (old, bad) in enumerate(rows)
        ]
    for attack in ATTACKS:
        found[attack.name] = [
            (query, attack.rewrite(query, document)) if bad and i % every == 0 else None
            for i, ((query, document), bad) in enumerate(rows)
        ]
    return found


def grade_variants(grader: Any, variants: Variants, *, is_quiet: bool) -> dict[str, Graded]:
    """Grade every variant of every pair. Those of one pair stand together, so that its document is read once."""
    n_pairs = len(variants[""])
    jobs = [(name, row, texts) for row in range(n_pairs) for name in variants if (texts := variants[name][row])]
    empty = {
        name: Graded(np.full(n_pairs, np.nan), np.full(n_pairs, np.nan), np.zeros(n_pairs, np.bool_))
        for name in variants
    }
    grades = grader.grade_pairs([texts for _, _, texts in jobs])
    progress = track(grades, total=len(jobs), console=Console(stderr=True), disable=is_quiet)
    for (name, row, _), grade in zip(jobs, progress, strict=True):
        graded = empty[name]
        graded.logits[row], graded.probabilities[row] = grade.logit, grade.probability
        graded.is_kept[row] = grade.relevant
    return empty


def cosine(vectors: Any, texts: Sequence[tuple[str, str] | None]) -> NDArray[np.float64]:
    """Cosine of query and document, shape (n_pairs,); NaN where there is no pair."""
    rows = [row for row, each in enumerate(texts) if each is not None]
    given = [each for each in texts if each is not None]
    found = np.full(len(texts), np.nan)
    queries = vectors.encode([query for query, _ in given], kind="query")
    documents = vectors.encode([document for _, document in given], kind="document")
    found[rows] = (queries.astype(np.float64) * documents).sum(axis=1)
    return found


def points(grader: Any) -> dict[str, float]:
    """Name -> threshold, the default point first."""
    first = grader.operating_point
    return {first.name: first.threshold} | {each.name: each.threshold for each in grader.operating_points}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stability", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    add("--bundle", help="grader under test, of architecture interaction; left out: the embedded default")
    add("--files", type=lambda text: tuple(text.split(",")), default=(), help="collections to draw from, by comma")
    add("--queries", type=int, default=25, help="drawn of each collection")
    add("--documents", type=int, default=2, help="drawn of each query")
    add("--rewrite-every", type=int, default=3, help="documents are rewritten in each N-th pair; queries in all")
    add("--max-characters", type=int, default=2000, help="longer documents are left out")
    add("--draws", type=int, default=1000, help="bootstrap draws")
    add("--seed", type=int, default=0, help="of the sample and the bootstrap")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "stability.json", help="report to write")
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


def _load_grader(bundle: str | None) -> Any:
    from relgrade import Grader

    return Grader.load(bundle, n_threads=1)


def _load_vectors(bundle: str | None) -> Any:
    from relgrade.grade.text_vectors import TextVectors

    return TextVectors.load(bundle, n_threads=1)


if __name__ == "__main__":
    sys.exit(main())
