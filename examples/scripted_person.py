"""A person for the story: the gold judgements of the example queries, and the answers they give in an audit.

On your own data this is you: `relgrade audit serve` opens a page and writes the very file that is written here.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from relgrade.audit.annotations import AnnotationLog
from relgrade.audit.cases import read_cases
from relgrade.formats import write_pairs
from relgrade.records import Pair

PERSON = "scripted-person"


@dataclass(frozen=True, slots=True)
class Gold:
    """Judgements made by reading the documents, taken as right; by query id, then ids of documents."""

    relevant: Mapping[str, frozenset[str]]
    near_misses: Mapping[str, frozenset[str]]
    names: Mapping[tuple[str, str], tuple[str, str]]  # texts of query and document -> their ids

    @classmethod
    def read(cls, queries: Sequence[Mapping[str, Any]], pairs: Iterable[Pair] = ()) -> Self:
        """From rows with `id`, `relevant` and `near_misses`; the pairs say whose texts are whose."""
        return cls(
            {row["id"]: frozenset(row["relevant"]) for row in queries},
            {row["id"]: frozenset(row["near_misses"]) for row in queries},
            {_texts(pair.query, pair.document): (pair.query_id, pair.doc_id) for pair in pairs},
        )

    def find(self, query: str, document: str) -> tuple[str, str] | None:
        """Ids of a query and a document by their texts; None where they are no pair of the story."""
        return self.names.get(_texts(query, document))

    def label(self, pair: Pair) -> float:
        """1 where the document answers the query, else 0."""
        return float(pair.doc_id in self.relevant[pair.query_id])

    def count_wrong(self, pairs: Iterable[Pair]) -> int:
        """Pairs whose label is on the wrong side of 0.5."""
        return sum(((pair.label or 0.0) >= 0.5) != bool(self.label(pair)) for pair in pairs)


def _texts(query: str, document: str) -> tuple[str, str]:
    return " ".join(query.split()), " ".join(document.split())


def judge_pairs(gold: Gold, pairs: Iterable[Pair], output: Path) -> list[Pair]:
    """Label every pair and write them; a file of pairs that people labelled."""
    judged = [replace(pair, label=gold.label(pair)) for pair in pairs]
    write_pairs(output, judged)
    return judged


def answer_cases(gold: Gold, sample: Path, answers: Path) -> int:
    """Answer the cases of a sample or a queue as `relgrade audit serve` would have it; returns how many there are.

    What a killed run has answered is not asked again.
    """
    cases = read_cases(sample)
    with AnnotationLog(answers) as log:
        done = log.desk(PERSON).done
        for case in cases:
            if case.case not in done:
                pair = gold.find(case.query, case.document)
                assert pair is not None, f"the story has no such pair: {case.query}"
                log.append(PERSON, "answer", case=case, answer=int(pair[1] in gold.relevant[pair[0]]))
    return len(cases)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """One object per line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
