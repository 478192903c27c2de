"""What judging a pair costs once its texts were read: pair by pair, as older bundles do, and list by list.

    python -m benchmarks.head --data FOLDER [--bundle FOLDER] [--pairs N]

The two judge the same lists of one query in turn, on one thread, from states held in memory. Lengths are those of the
first so many tokens of real documents. Logits and verdicts are compared on whole documents of test lists. The last line
is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document_cache import read_lists
from relgrade.bundle import load_bundle
from relgrade.calibrate import apply
from relgrade.grade.document_states import DocumentStates
from relgrade.grade.grader import DEFAULT_BUNDLE
from relgrade.grade.interaction import LIST_HEAD_ROLE, InteractionRuntime

ROOT = Path(__file__).resolve().parent.parent
LENGTHS, LIST_SIZES = (30, 170), (1, 20, 200)
N_ROUNDS = 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head")
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    parser.add_argument("--bundle", type=Path, default=DEFAULT_BUNDLE, help="with a list head")
    parser.add_argument("--pairs", type=int, default=2000, help="whose logits are compared, about")
    options = parser.parse_args(arguments)
    bundle = load_bundle(options.bundle)
    if LIST_HEAD_ROLE not in bundle.manifest.graphs:
        parser.error(f"{options.bundle} has no list head; export it again")
    lists = InteractionRuntime.from_bundle(bundle, n_threads=1)
    pairs = InteractionRuntime.from_bundle(bundle, n_threads=1)
    pairs._list_head = None
    texts = read_lists(options.data, options.pairs)
    report = {
        "bundle_hash": bundle.hash,
        "load_average": os.getloadavg()[0],
        **compare(lists, pairs, texts, bundle.manifest),
        "ms_a_pair": time_judging({"pairs": pairs, "lists": lists}, texts),
    }
    print(json.dumps(report))
    return 0


def compare(lists: InteractionRuntime, pairs: InteractionRuntime, texts: Any, manifest: Any) -> dict[str, Any]:
    """Differences of the logits and verdicts of both on real lists, and the share of echoes."""
    found: dict[str, list[float]] = {"pairs": [], "lists": []}
    for query, documents in texts:
        read = pairs._read([query], kind="query"), pairs._read(documents, kind="document")
        judged = [(read[0][query], read[1][document]) for document in documents]
        found["pairs"] += pairs._judge(judged).tolist()
        found["lists"] += lists._judge(judged).tolist()
    before, after = np.array(found["pairs"]), np.array(found["lists"])
    at = {point.name: point.threshold for point in manifest.operating_points}
    probabilities = apply(manifest.calibration, before), apply(manifest.calibration, after)
    return {
        "n_pairs": before.size,
        "largest_difference": float(np.abs(before - after).max()),
        "flips": {
            name: int(((probabilities[0] >= threshold) != (probabilities[1] >= threshold)).sum())
            for name, threshold in at.items()
        },
    }


def time_judging(runtimes: Mapping[str, InteractionRuntime], texts: Any) -> dict[str, dict[str, float]]:
    """Median ms a pair of each, by tokens of the documents and length of the list."""
    reader = next(iter(runtimes.values()))
    query = reader._read([texts[0][0]], kind="query")[texts[0][0]]
    longest = [document for _, documents in texts for document in documents if len(document.split()) >= max(LENGTHS)]
    read = list(reader.read_states(longest[:24]).values())
    report: dict[str, dict[str, float]] = {}
    for n_tokens in LENGTHS:
        documents = [_cut(each, n_tokens) for each in read if len(each.ids) >= n_tokens]
        for n_documents in LIST_SIZES:
            judged = [(query, documents[i % len(documents)]) for i in range(n_documents)]
            calls = {name: partial(each._judge, judged) for name, each in runtimes.items()}
            report[f"{n_tokens} tokens, list of {n_documents}"] = _in_turn(calls, n_documents)
    return report


def _cut(document: DocumentStates, n_tokens: int) -> DocumentStates:
    return DocumentStates(
        document.ids[:n_tokens], document.codes[:n_tokens], document.scales[:n_tokens], document.vectors[:1], False
    )


def _in_turn(calls: Mapping[str, Callable[[], object]], n_documents: int) -> dict[str, float]:
    n_repeats = max(3, 200 // n_documents)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(N_ROUNDS * n_repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append((time.process_time() - start) * 1000 / n_documents)
    return {name: round(float(np.median(each)), 4) for name, each in times.items()}


if __name__ == "__main__":
    sys.exit(main())
