"""Does grading help a RAG system? The cost card of `relgrade card` on two real corpora, with two retrievers each.

    python -m benchmarks.rag --data FOLDER [--queries N] [--bundle FOLDER]

The top 20 of each question by BM25, and by the cosine of the embedded encoder; no generator. Limits are chosen on train
questions; the grader keeps the points of its bundle. What is read is kept under --cache: a killed run
goes on, a rerun takes seconds and tells the milliseconds of the first. The last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rag_answers import FILES, find_case, kept_answers, year_of
from benchmarks.rag_corpora import CORPORA, Corpus, gold_pairs, read_corpus
from benchmarks.rag_measures import Ratio
from benchmarks.summaries import environment
from relgrade.card import CardSettings, Case, Lists, build_card, read_lists, retrieve_lists
from relgrade.card.render import equal_tokens_table, markdown, table
from relgrade.formats.write import replaced_file

ROOT = Path(__file__).resolve().parent.parent
RETRIEVERS = ("bm25", "dense")
TOP = 20
FEWEST = 3  # documents that a policy lets through


@dataclass(frozen=True, slots=True)
class Tools:
    """What every corpus is measured with."""

    grader: Any
    vectors: Any  # a TextVectors
    count_tokens: Callable[[Sequence[str]], list[int]]
    cache: Path


def main(arguments: Sequence[str] | None = None, *, load: Callable[[argparse.Namespace], Tools] | None = None) -> int:
    """Run the benchmark. `load` stands in for opening the bundle, for tests."""
    options = _options(arguments)
    start = time.perf_counter()
    tools = (load or _load)(options)
    report: dict[str, Any] = {"bundle_hash": tools.grader.bundle.hash, "corpora": {}}
    for retriever in options.retrievers:
        for name in options.corpora:
            report["corpora"].setdefault(name, {})[retriever] = _run(name, retriever, options, tools)
            _write(report, options.output, start)
    cases = [case for pair in gold_pairs(options.data, FILES) if (case := find_case(*pair))][: options.queries]
    if cases:
        report["compression"] = _run_answers(cases, options, tools)
    _write(report, options.output, start)
    print(json.dumps(_summary(report), allow_nan=False))
    return 0


def cases_of(corpus: Corpus) -> list[Case]:
    """The questions of a corpus; where the answer can be told it is a year."""
    cases = []
    for question in corpus.questions:
        gold = [corpus.documents[row] for row in sorted(question.gold)]
        years = {year for text in gold if (year := year_of(question.query, text))}
        cases.append(
            Case(
                query_id=question.id,
                query=question.query,
                relevant=frozenset(map(str, question.gold)),
                answers=tuple(sorted(years)),
                is_answerable=bool(gold),
            )
        )
    return cases


def _run(name: str, retriever: Any, options: argparse.Namespace, tools: Tools) -> dict[str, Any]:
    test, train = (
        _lists(name, split, retriever, n_questions, options, tools)
        for split, n_questions in (("test", options.queries), ("train", options.train_queries))
    )
    about = {
        "corpus": name,
        "retriever": retriever,
        "n_documents": test.n_documents,
        "n_calibration_documents": train.n_documents,
    }
    card = build_card(
        test.lists,
        train.lists,
        default_point=tools.grader.operating_point.name,
        settings=CardSettings(max_keep=FEWEST, n_draws=options.draws, seed=options.seed),
        about=about,
    ).plain
    print(f"\n{heading(card)}\n\n{markdown(table(card))}\n\n{markdown(equal_tokens_table(card))}", flush=True)
    return card


@dataclass(frozen=True, slots=True)
class _Split:
    lists: Lists
    n_documents: int


def _lists(
    name: str, split: str, retriever: Any, n_questions: int, options: argparse.Namespace, tools: Tools
) -> _Split:
    corpus = read_corpus(options.data, name, split=split, n_questions=n_questions, seed=options.seed)
    folder = tools.cache / f"{name}-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "corpus.jsonl"
    with replaced_file(path) as file:
        for row, text in enumerate(corpus.documents):
            file.write((json.dumps({"id": str(row), "text": text}) + "\n").encode("utf-8"))
    scored = retrieve_lists(cases_of(corpus), path, encoder=tools.vectors, folder=folder, method=retriever, n_top=TOP)
    is_test = split == "test"
    readings = read_lists(
        scored.cases,
        tools.grader,
        has_compression=is_test,
        n_timed=options.timed if is_test else 0,
        journal=folder / "read.jsonl",
    )
    lists = Lists.of(
        scored.cases,
        scored.scores,
        readings,
        manifest=tools.grader.bundle.manifest,
        count_tokens=tools.count_tokens,
    )
    return _Split(lists, scored.n_documents)


def heading(card: dict[str, Any]) -> str:
    """Corpus, retriever and sample, in a line."""
    sample, about = card["sample"], card["about"]
    return (
        f"{about['corpus']}, {about['retriever']} top {sample['n_top']}: {sample['n_questions']} questions "
        f"({sample['n_unanswerable']} unanswerable), {about['n_documents']:,} documents"
    )


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


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    """One short line of numbers: precision, survival, empty contexts and tokens of each filter."""
    keys = ("precision", "gold_survives", "empty_unanswerable", "tokens")
    return {
        "bundle_hash": report["bundle_hash"],
        **{
            f"{corpus}/{retriever}": {
                row["filter"]: [None if row[key]["value"] is None else round(row[key]["value"], 3) for key in keys]
                for row in card["rows"]
            }
            for corpus, of_corpus in report["corpora"].items()
            for retriever, card in of_corpus.items()
        },
    }


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
    add("--queries", type=int, default=240, help="test questions of each corpus")
    add("--train-queries", type=int, default=60, help="train questions of each corpus, to choose limits on")
    add("--corpora", type=lambda text: tuple(text.split(",")), default=tuple(CORPORA), help="by comma")
    add("--retrievers", type=lambda text: tuple(text.split(",")), default=RETRIEVERS, help="by comma")
    add("--draws", type=int, default=1000, help="bootstrap draws of questions")
    add("--seed", type=int, default=0, help="of the samples and the bootstrap")
    add("--timed", type=int, default=20, help="questions of each list that are timed")
    add("--threads", type=int, default=1, help="sequences read at once")
    add("--cache", type=Path, default=ROOT / "runs" / "rag", help="where lists, scores and vectors are kept")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "rag.json", help="report to write")
    return parser.parse_args(arguments)


def _load(options: argparse.Namespace) -> Tools:
    from relgrade import Grader
    from relgrade.encoding import TokenCounter
    from relgrade.grade.text_vectors import TextVectors

    vectors = TextVectors.load(options.bundle, n_threads=options.threads)
    grader = Grader.load(options.bundle, n_threads=options.threads)
    return Tools(grader, vectors, TokenCounter(vectors.tokenizer).count, options.cache)


if __name__ == "__main__":
    sys.exit(main())
