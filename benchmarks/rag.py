"""Does grading help a RAG system? Retrieved lists, thinned out in several ways, and what is left for the generator.

    python -m benchmarks.rag --data FOLDER [--queries N] [--bundle FOLDER]

Two corpora, two retrievers (BM25; cosine of the embedded encoder), top 20 of each question, no generator. The limits of
the baselines are chosen on train questions of the same corpus; the grader keeps the points of its bundle. The last line
is JSON. Scores and vectors are cached, so a rerun takes seconds; milliseconds are measured anew on a few questions.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rag_answers import FILES, find_case, kept_answers
from benchmarks.rag_corpora import CORPORA, Corpus, gold_pairs, read_corpus
from benchmarks.rag_filters import RETRIEVERS, TOP, Retrieved, baselines, pairs_of, pick_threshold, retrieve
from benchmarks.rag_measures import Ratio, card, measure
from benchmarks.scorers import CachedScores, GraderScorer
from benchmarks.summaries import environment
from relgrade.probability import calibrated_probability

ROOT = Path(__file__).resolve().parent.parent
N_TIMED = 3  # questions, one after another
COMPRESSED = "relgrade + compress"
FEWEST = 3  # documents that a policy lets through


@dataclass(frozen=True, slots=True)
class Tools:
    """What every corpus is measured with."""

    grader: Any
    vectors: Any  # a TextVectors
    count_tokens: Callable[[Sequence[str]], list[int]]
    cache: Path
    n_compressed: dict[tuple[str, str], int]  # tokens left of (query, document), shared by the retrievers


def main(arguments: Sequence[str] | None = None, *, load: Callable[[argparse.Namespace], Tools] | None = None) -> int:
    """Run the benchmark. `load` stands in for opening the bundle, for tests."""
    options = _options(arguments)
    start = time.perf_counter()
    tools = (load or _load)(options)
    about = {"bundle_hash": tools.grader.bundle.hash, "n_draws": options.draws, "seed": options.seed}
    report: dict[str, Any] = {**about, "corpora": {}}
    for name in options.corpora:
        report["corpora"][name] = _run_corpus(name, options, tools)
        _write(report, options.output, start)
    cases = [case for pair in gold_pairs(options.data, FILES) if (case := find_case(*pair))][: options.queries]
    if cases:
        report["compression"] = _run_answers(cases, options, tools)
    _write(report, options.output, start)
    print(json.dumps(_summary(report), allow_nan=False))
    return 0


def _write(report: dict[str, Any], path: Path, start: float) -> None:
    """After each corpus, as a run takes minutes."""
    report["environment"] = {**environment(), "seconds": round(time.perf_counter() - start, 1)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rag", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    add("--bundle", help="grader under test; left out: the embedded default")
    add("--queries", type=int, default=150, help="test questions of each corpus; half as many train questions")
    add("--corpora", type=lambda text: tuple(text.split(",")), default=tuple(CORPORA), help="by comma")
    add("--draws", type=int, default=1000, help="bootstrap draws of questions")
    add("--seed", type=int, default=0, help="of the samples and the bootstrap")
    add("--threads", type=int, default=1, help="sequences read at once")
    add("--cache", type=Path, default=ROOT / "runs" / "rag", help="where scores and vectors are kept")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "rag.json", help="report to write")
    return parser.parse_args(arguments)


def _load(options: argparse.Namespace) -> Tools:
    from relgrade import Grader
    from relgrade.encoding import TokenCounter
    from relgrade.grade.text_vectors import TextVectors

    vectors = TextVectors.load(options.bundle, n_threads=options.threads)
    grader = Grader.load(options.bundle, n_threads=options.threads)
    return Tools(grader, vectors, TokenCounter(vectors.tokenizer).count, options.cache, {})


def _run_corpus(name: str, options: argparse.Namespace, tools: Tools) -> dict[str, Any]:
    corpora = [
        read_corpus(options.data, name, split=split, n_questions=n, seed=options.seed)
        for split, n in (("test", options.queries), ("train", -(-options.queries // 2)))
    ]
    corpus, train = corpora
    lists, train_lists = (retrieve(each, tools.vectors, tools.cache) for each in corpora)
    probability_of = _probabilities(corpus, list(lists.values()), tools)
    train_probability_of = _probabilities(train, list(train_lists.values()), tools)
    sizes = np.asarray(tools.count_tokens(corpus.documents), np.float64)
    n_gold = np.asarray([len(question.gold) for question in corpus.questions])
    about = {
        "n_questions": len(corpus.questions),
        "n_unanswerable": corpus.n_unanswerable,
        "n_documents": len(corpus.documents),
        "n_train_questions": len(train.questions),
        "n_train_documents": len(train.documents),
    }
    result: dict[str, Any] = {"sample": about, "retrievers": {}}
    milliseconds: dict[str, float | None] = {}  # measured on the lists of the first retriever
    for retriever in RETRIEVERS:
        found = lists[retriever]
        kept, limits = baselines(found, train_lists[retriever])
        probabilities = _on_lists(corpus, found, probability_of)
        for point in tools.grader.operating_points:
            kept[f"relgrade {point.name}"] = probabilities >= point.threshold
        is_relevant = probabilities >= tools.grader.operating_point.threshold
        kept[f"relgrade {tools.grader.operating_point.name}, at most {FEWEST}"] = is_relevant & _best(probabilities)
        # As the limits of the baselines are: by the best F1 on the train questions.
        on_train = _on_lists(train, train_lists[retriever], train_probability_of)
        limits["relgrade"] = pick_threshold(on_train, train_lists[retriever].is_gold)
        kept["relgrade, tuned"] = probabilities >= limits["relgrade"]
        tokens = {filter_name: sizes[found.rows] for filter_name in kept}
        kept[COMPRESSED] = is_relevant
        tokens[COMPRESSED] = _compressed_sizes(corpus, found, kept[COMPRESSED], tools)
        measured = {
            filter_name: measure(
                is_kept, found.is_gold, n_gold, tokens[filter_name], n_draws=options.draws, seed=options.seed
            )
            for filter_name, is_kept in kept.items()
        }
        milliseconds = milliseconds or _milliseconds(corpus, found, tools, list(kept))
        print(card(_title(name, retriever, about), measured, milliseconds), flush=True)
        result["retrievers"][retriever] = {
            "limits": limits,
            "filters": {key: {k: v.to_json() for k, v in each.items()} for key, each in measured.items()},
        }
    result["milliseconds"] = milliseconds
    return result


def _probabilities(corpus: Corpus, lists: Sequence[Retrieved], tools: Tools) -> dict[tuple[str, str], float]:
    """Calibrated probability of every distinct (query, document) of the lists, by the pooled calibration."""
    texts = pairs_of(corpus, lists)
    logits = CachedScores(tools.cache).get(GraderScorer(tools.grader), texts, (), lambda n: None)
    calibrated = calibrated_probability(tools.grader.bundle.manifest.calibration, logits)
    return dict(zip(texts, calibrated.tolist(), strict=True))


def _on_lists(corpus: Corpus, found: Retrieved, probability_of: dict[tuple[str, str], float]) -> NDArray[np.float64]:
    return np.asarray(
        [
            [probability_of[question.query, corpus.documents[row]] for row in rows]
            for question, rows in zip(corpus.questions, found.rows.tolist(), strict=True)
        ]
    )


def _best(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The `FEWEST` most probable of each list; of equals those that were retrieved first."""
    ranks = np.argsort(np.argsort(-probabilities, axis=1, kind="stable"), axis=1)
    return np.asarray(ranks < FEWEST)


def _compressed_sizes(corpus: Corpus, found: Retrieved, kept: NDArray[np.bool_], tools: Tools) -> NDArray[np.float64]:
    """Tokens of each kept document after compression, 0 for the others; only kept ones are read again."""
    sizes = np.zeros(found.rows.shape)
    for number, question in enumerate(corpus.questions):
        columns = np.flatnonzero(kept[number])
        texts = [corpus.documents[row] for row in found.rows[number, columns].tolist()]
        unread = [text for text in texts if (question.query, text) not in tools.n_compressed]
        # What was kept is kept again: a grade depends on its own pair alone.
        for text, item in zip(unread, tools.grader.compress(question.query, unread), strict=True):
            tools.n_compressed[question.query, text] = item.tokens_after
        sizes[number, columns] = [tools.n_compressed[question.query, text] for text in texts]
    return sizes


def _milliseconds(corpus: Corpus, found: Retrieved, tools: Tools, names: Sequence[str]) -> dict[str, float | None]:
    """Median time of one question that a filter adds to retrieval; None: nothing that could be measured."""
    graded: list[float] = []
    compressed: list[float] = []
    encoded: list[float] = []
    for question, rows in list(zip(corpus.questions, found.rows.tolist(), strict=True))[:N_TIMED]:
        texts = [corpus.documents[row] for row in rows]
        times = [time.perf_counter()]
        tools.grader.grade(question.query, texts)
        times.append(time.perf_counter())
        tools.grader.compress(question.query, texts)
        times.append(time.perf_counter())
        tools.vectors.encode([question.query], kind="query")
        times.append(time.perf_counter())
        for spent, (start, end) in zip((graded, compressed, encoded), pairwise(times), strict=True):
            spent.append((end - start) * 1000)
    spent_by = {"cosine": encoded, COMPRESSED: compressed}
    spent_by |= {name: graded for name in names if name.startswith("relgrade") and name != COMPRESSED}
    return {name: round(statistics.median(spent_by[name]), 2) if spent_by.get(name) else None for name in names}


def _run_answers(cases: list[Any], options: argparse.Namespace, tools: Tools) -> dict[str, Any]:
    found = kept_answers(tools.grader, cases, n_draws=options.draws, seed=options.seed)
    print(f"\nCompression alone: {len(cases)} gold paragraphs with one sentence that must hold the answer\n")
    print("| sentences above | answer sentence kept | tokens left |\n| --- | --- | --- |")
    for name, each in found.items():
        print(f"| {name} | {_interval(each['answer_kept'])} | {_interval(each['tokens_left'])} |")
    return {
        "n_cases": len(cases),
        "points": {name: {key: value.to_json() for key, value in each.items()} for name, each in found.items()},
    }


def _interval(found: Ratio) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _title(name: str, retriever: str, about: dict[str, Any]) -> str:
    return (
        f"{name}, {retriever} top {TOP}: {about['n_questions']} questions ({about['n_unanswerable']} unanswerable), "
        f"{about['n_documents']:,} documents"
    )


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """One short line of numbers: precision, survival and tokens of each filter."""
    keys = ("precision", "survives", "empty_unanswerable", "tokens")
    return {
        "bundle_hash": report["bundle_hash"],
        **{
            f"{corpus}/{retriever}": {
                name: [None if each[key]["value"] is None else round(each[key]["value"], 3) for key in keys]
                for name, each in of_retriever["filters"].items()
            }
            for corpus, of_corpus in report["corpora"].items()
            for retriever, of_retriever in of_corpus["retrievers"].items()
        },
    }


if __name__ == "__main__":
    sys.exit(main())
