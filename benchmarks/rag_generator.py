"""Does a shorter context help a small generator? A handful of questions, a very weak model, and a proxy for answers.

    python -m benchmarks.rag_generator --data FOLDER --model FOLDER [--questions N] [--journal FILE]

The collections hold no answers. But where a test question asks when, and its gold paragraph names one year that the
question does not, that year counts as the answer; some are not. The model reads the passages that a filter leaves of
the BM25 top 20, in that order, and writes up to 12 tokens, greedily; a reply counts when the year stands in it. FOLDER
of --model: a causal model of transformers; the committed run has the pretrained gemma-3-270m, which was never taught to
follow instructions. `nothing` and `gold paragraph alone` say what it knows by heart and the most that it can read. The
last line is JSON.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rag_answers import YEAR, year_of
from benchmarks.rag_corpora import Corpus, read_corpus
from benchmarks.summaries import environment
from relgrade.candidates.lexical import LexicalIndex
from relgrade.errors import InvalidData
from relgrade.evaluate.intervals import draw_queries, ratio_draws, share_estimate
from relgrade.formats.journal import JsonlJournal
from relgrade.formats.lines import read_json_rows
from relgrade.formats.write import replaced_file

ROOT = Path(__file__).resolve().parent.parent
TOP, FEW = 20, 5
NEW_TOKENS = 12
CONTEXTS = ("no filter", f"top {FEW}", "relgrade balanced", "relgrade + compress", "nothing", "gold paragraph alone")
N_DRAWS = 2_000

Generate = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question whose answer is a year."""

    id: str
    query: str
    year: str
    gold: str  # the paragraph that names it


def asked_of(corpus: Corpus, *, n_questions: int, seed: int) -> list[Asked]:
    """A sample of the questions of a corpus whose answer can be told."""
    found = []
    for question in corpus.questions:
        for row in sorted(question.gold)[:1]:
            if year := year_of(question.query, corpus.documents[row]):
                found.append(Asked(question.id, question.query, year, corpus.documents[row]))
    picked = np.random.default_rng(seed).permutation(len(found))[:n_questions].tolist()
    return [found[i] for i in sorted(picked)]


def contexts_of(asked: Asked, retrieved: Sequence[str], grader: Any) -> dict[str, list[str]]:
    """What each filter leaves of a list, in its order."""
    kept = [grade.document for grade in grader.grade(asked.query, retrieved) if grade.relevant]
    compressed = [item.text for item in grader.compress(asked.query, kept)]
    contexts = (list(retrieved), list(retrieved[:FEW]), kept, compressed, [], [asked.gold])
    return dict(zip(CONTEXTS, contexts, strict=True))


def prompt_of(query: str, passages: Sequence[str]) -> str:
    """The text that the model goes on with; without passages the question alone."""
    body = "".join(f"{text.strip()}\n\n" for text in passages)
    return f"{body}Question: {query.strip().rstrip('?')}?\nAnswer (the year):"


def summarise(rows: Sequence[Mapping[str, Any]], *, seed: int) -> dict[str, dict[str, Any]]:
    """For each context: the share of replies with the year, that of contexts with it, and the size of both.

    `gain` is the share less that of the unfiltered list, on the same questions and draws.
    """
    results = {}
    unfiltered = np.array([float(row["is_right"]) for row in rows if row["context"] == CONTEXTS[0]])
    for name in CONTEXTS:
        own = [row for row in rows if row["context"] == name]
        right = np.asarray([row["is_right"] for row in own], dtype=np.bool_)
        counts = draw_queries(len(own), n_draws=N_DRAWS, seed=seed)
        share = share_estimate(
            right, ratio_draws(counts, right.astype(np.float64), np.ones(len(own))), n_pairs=len(own)
        )
        gain = right - unfiltered  # rows stand in the order of the questions, whatever the context
        low, high = np.quantile(ratio_draws(counts, gain, np.ones(len(own))), [0.025, 0.975])
        results[name] = {
            "gain": {"value": float(gain.mean()), "low": float(low), "high": float(high)},
            "right": share.value,
            "low": share.low,
            "high": share.high,
            "n_questions": len(own),
            "year_in_context": float(np.mean([row["year_in_context"] for row in own])),
            "empty": float(np.mean([row["n_passages"] == 0 for row in own])),
            "prompt_tokens": round(float(np.mean([row["prompt_tokens"] for row in own])), 1),
            "seconds": round(float(np.median([row["seconds"] for row in own])), 2),
        }
    return results


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown."""
    lines = ["| what the model reads | year in the reply | year in the context | prompt tokens | seconds |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for name, each in results.items():
        share = f"{each['right']:.2f} [{each['low']:.2f}, {each['high']:.2f}]"
        tokens = f"{each['prompt_tokens']:,.0f} | {each['seconds']:.1f}"
        lines.append(f"| {name} | {share} | {each['year_in_context']:.2f} | {tokens} |")
    return "\n".join(lines)


class LocalModel:
    """A causal language model of transformers on one thread.

    Args:
        folder: weights and tokenizer.
    """

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        torch.set_num_threads(1)
        logging.disable_progress_bar()
        self._torch = torch
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        self._model = model.eval()

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._tokenizer(text)["input_ids"])

    def __call__(self, prompt: str) -> str:
        """The first line of a greedy continuation."""
        inputs = self._tokenizer(prompt, return_tensors="pt")
        with self._torch.inference_mode():
            output = self._model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)
        text = str(self._tokenizer.decode(output[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        return (text.strip().splitlines() or [""])[0]


def main(arguments: Sequence[str] | None = None, *, model: Any = None, grader: Any = None) -> int:
    """Run the benchmark; `model` and `grader` stand in for those of the options, for tests."""
    options = _options(arguments)
    corpus = read_corpus(options.data, "wiki", split="test", n_questions=sys.maxsize // 4, seed=options.seed)
    asked = asked_of(corpus, n_questions=options.questions, seed=options.seed)
    if grader is None:
        from relgrade import Grader

        grader = Grader.load(options.bundle, n_threads=1)
    if not options.only_finished:
        _ask_all(asked, corpus, grader, model or LocalModel(options.model), options.journal)
    rows = [dict(row.values) for row in read_json_rows(options.journal) if not isinstance(row, InvalidData)]
    known = {row["key"]: row for row in rows}
    finished = [each for each in asked if keys_of(each) <= known.keys()]
    results = summarise([known[key] for each in finished for key in sorted(keys_of(each))], seed=options.seed)
    report = {
        "benchmark": "rag_generator",
        "model": options.model_name,
        "bundle_hash": grader.bundle.hash,
        "n_questions": len(finished),
        "n_sampled": len(asked),
        "n_documents": len(corpus.documents),
        "seed": options.seed,
        "contexts": results,
        "environment": environment(),
    }
    with replaced_file(options.output) as file:
        file.write((json.dumps(report, indent=1, allow_nan=False) + "\n").encode("utf-8"))
    print(table(results))
    print(json.dumps({name: each["right"] for name, each in results.items()}))
    return 0


def keys_of(asked: Asked) -> set[str]:
    """Of the rows of a question in the journal."""
    return {f"{asked.id} {name}" for name in CONTEXTS}


def _ask_all(asked: Sequence[Asked], corpus: Corpus, grader: Any, model: Any, path: Path) -> None:
    """Ask what the journal does not hold yet."""
    index = LexicalIndex(corpus.documents)
    path.parent.mkdir(parents=True, exist_ok=True)
    with JsonlJournal(path, key="key") as journal:
        for each in asked:
            if keys_of(each) <= journal.done:
                continue
            retrieved = [corpus.documents[row] for row in index.search(each.query, TOP).rows.tolist()]
            for name, passages in contexts_of(each, retrieved, grader).items():
                if f"{each.id} {name}" not in journal.done:
                    journal.append([_ask(each, name, passages, model)])


def _ask(asked: Asked, name: str, passages: Sequence[str], model: Any) -> dict[str, Any]:
    prompt = prompt_of(asked.query, passages)
    start = time.perf_counter()
    reply = model(prompt)
    return {
        "key": f"{asked.id} {name}",
        "context": name,
        "reply": reply,
        "is_right": asked.year in YEAR.findall(reply),
        "year_in_context": any(asked.year in text for text in passages),
        "n_passages": len(passages),
        "prompt_tokens": model.count(prompt),
        "seconds": time.perf_counter() - start,
    }


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rag_generator", description=(__doc__ or "").split("\n")[0]
    )
    add = parser.add_argument
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    add("--model", type=Path, help="folder of a causal language model")
    add("--model-name", default="gemma-3-270m (pretrained, Q4_K_M weights made float32)", help="for the report")
    add("--bundle", help="grader under test; left out: the embedded default")
    add("--questions", type=int, default=30, help="sampled")
    add("--seed", type=int, default=0, help="of the sample and the bootstrap")
    add("--journal", type=Path, default=ROOT / "runs" / "rag" / "generator.jsonl", help="replies; a rerun goes on")
    output = ROOT / "benchmarks" / "results" / "rag_generator.json"
    add("--only-finished", action="store_true", help="ask nothing: report the questions that the journal holds whole")
    add("--output", type=Path, default=output, help="report to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
