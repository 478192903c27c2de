"""Transfer of a model that was trained whole (configuration C): what it is worth on domains it never saw.

    python -m benchmarks.paper.trained_transfer --data FOLDER --student RUN/rows/c-all-*/student [--out FOLDER]

News is tested on the very pairs of the table; BM25, which nobody trained, stands beside the model everywhere.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.paper.beside_bm25 import add_model, bm25, measured
from benchmarks.paper.questions import ROOT, TEST
from relgrade.data import cap_by_query
from relgrade.formats.read import read_pairs
from relgrade.paper.samples import read_samples
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair
from relgrade.student import load_student


def main() -> None:
    """Score the test pairs of every domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--row", default="c-all", help="name of the row that trained it")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "paper" / "results")
    parser.add_argument("--config", type=Path, default=ROOT / "recipes" / "minilm-paper.toml")
    parser.add_argument("--test-pairs", type=int, default=300, help="of each domain but news")
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()

    settings = PaperSettings.read(given.config, data_folder=given.data)
    news = read_samples(settings).tests
    student = load_student(given.student)
    rows = []
    for domain, name in TEST.items():
        pairs = news.get(name) or _labelled(given.data / f"{name}.jsonl.gz", given.test_pairs, seed=settings.seed)
        lengths = student.count_tokens(pairs)
        ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: -lengths[i])]
        scored = {"model": np.asarray(student.score(ordered, batch_pairs=16)), "BM25": bm25(ordered)}
        row = {"test": domain, "file": name, "n_test": len(ordered), **measured(ordered, scored, given.draws)}
        rows.append(row)
        print(domain, {scorer: row[scorer]["average_precision"]["value"] for scorer in scored}, row["base_rate"])
    about = {"table": settings.name, "base": settings.student.base, "row": given.row, "seed": settings.seed}
    add_model(given.out / "questions.trained_transfer.json", {**about, "rows": rows})


def _labelled(path: Path, n_pairs: int, *, seed: int) -> list[Pair]:
    return cap_by_query([p for p in read_pairs(path, split="test") if p.label is not None], n_pairs, seed=seed)


if __name__ == "__main__":
    main()
