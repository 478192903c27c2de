"""Labels out of the journal and into files: labelled pairs in one, pairs without a label in another beside it.

The file of labels is a file of pairs: `label` is the probability, the rest of the label stands in fields. A pair
without a label is never in it. Both files appear whole or not at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relgrade.errors import InvalidInput
from relgrade.formats.lines import dump_json
from relgrade.formats.write import replaced_file, write_pairs
from relgrade.label.combining import combine
from relgrade.label.journal import Journal
from relgrade.label.plan import CHUNK, Plan, ReadPairs, chunks
from relgrade.label.prompt import has_instructions
from relgrade.records import Label, Pair

LABEL_FIELDS = (
    *("rubric", "rubric_hash", "model", "method", "majority", "teacher_grade", "label_mass", "n_samples"),
    *("disagreement", "input_tokens", "output_tokens", "cost", "reply", "has_instructions", "previous_label"),
)


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    n_labels: int
    n_errors: int  # pairs without a label, in the file beside
    errors_path: Path | None  # that file; None: there are none
    reason: str | None = None  # why pairs have no label, where all of them lack it for the same reason


def errors_path_for(output: Path | str) -> Path:
    """The file of pairs without a label: `labels.jsonl` -> `labels.errors.jsonl`."""
    path = Path(output)
    return path.with_name(f"{path.name.removesuffix('.gz').rpartition('.')[0] or path.name}.errors.jsonl")


def read_labels(read: ReadPairs, plan: Plan, *, journal: Path | str) -> Iterator[tuple[Pair, Label]]:
    """Each pair with what the journal knows of it, in the order of the pairs; asks nobody."""
    with Journal(journal) as book:
        for chunk in chunks(read(), CHUNK):
            keys = {id(pair): [job.key for job in plan.jobs(pair)] for pair in chunk}
            every = [key for pair in chunk for key in keys[id(pair)]]
            answers, failures, exported = book.answers(every), book.failures(every), book.exported(every)
            for pair in chunk:
                own = keys[id(pair)]
                missing = [key for key in own if key not in answers]
                reasons = [failures[key] for key in missing if key in failures]
                reasons += [f"out in the batch {exported[key].file}" for key in missing if key in exported]
                found = [answers[key] for key in own if key in answers]
                failure = reasons[0] if reasons else None
                yield (
                    pair,
                    combine(pair, found, rubric=plan.rubric, model=plan.model, n_asked=plan.n_answers, failure=failure),
                )


def write_labels(read: ReadPairs, plan: Plan, *, journal: Path | str, output: Path | str) -> Written:
    """Write every label there is, and beside it a line for each pair that has none.

    Raises:
        InvalidInput: `output` names no format of pairs, or the pairs' own fields clash.
        OutputError: a file cannot be written; older ones are as they were.
    """
    output, side = Path(output), errors_path_for(output)
    if output.resolve() == Path(journal).resolve():
        raise InvalidInput(f"{output}: is the journal; labels need a file of their own")
    n_errors = 0
    reasons: set[str] = set()  # two at most: it matters whether there is one, and memory must not grow with the pairs
    with replaced_file(side) as errors:

        def labelled() -> Iterator[Pair]:
            nonlocal n_errors
            for pair, label in read_labels(read, plan, journal=journal):
                if label.probability is not None:
                    yield labelled_pair(pair, label)
                else:
                    n_errors += 1
                    if len(reasons) < 2:
                        reasons.add(label.error or "")
                    errors.write(dump_json(_error_row(label)).encode("utf-8") + b"\n")

        n_labels = write_pairs(output, labelled())
    if not n_errors:
        side.unlink(missing_ok=True)
    reason = reasons.pop() if len(reasons) == 1 else None
    return Written(n_labels, n_errors, side if n_errors else None, reason)


def labelled_pair(pair: Pair, label: Label) -> Pair:
    """The pair with its label; a label that it had before is kept as field `previous_label`."""
    given: dict[str, Any] = {
        "rubric": label.rubric,
        "rubric_hash": label.rubric_hash,
        "model": label.model,
        "method": label.method,
        "majority": label.label,
        "teacher_grade": label.grade,
        "label_mass": label.label_mass,
        "n_samples": label.n_samples,
        "disagreement": label.disagreement,
        "input_tokens": label.input_tokens,
        "output_tokens": label.output_tokens,
        "cost": label.cost,
        "reply": label.reply,
        "has_instructions": has_instructions(pair.document) or None,
        "previous_label": pair.label,
    }
    kept = {name: value for name, value in pair.fields.items() if name not in LABEL_FIELDS}
    return replace(
        pair,
        label=label.probability,
        fields={**kept, **{name: value for name, value in given.items() if value is not None}},
    )


def _error_row(label: Label) -> dict[str, Any]:
    row = {
        "query_id": label.query_id,
        "doc_id": label.doc_id,
        "source": label.source,
        "error": label.error,
        "rubric": label.rubric,
        "model": label.model,
        "reply": label.reply,
    }
    return {name: value for name, value in row.items() if value is not None}
