"""What the commands of `relgrade audit` share: options, the end of their help, and the files that they read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from relgrade.audit.annotations import Annotation
    from relgrade.audit.cases import SampleKey
    from relgrade.audit.guideline import Guideline
    from relgrade.records import Pair

_Command = TypeVar("_Command", bound=Callable[..., Any])
_EXIT_CODES = """

\b
Exit codes:
  0  done
  2  bad input or usage"""  # \b keeps the lines of a paragraph as they are

LABELS = click.argument("labels_path", metavar="LABELS", type=click.Path())
KEY = click.option("--key", "key_path", type=click.Path(), help="Of the sample; default: found beside the answers.")
SCORES = click.option("--scores", "scores_path", type=click.Path(), help="What `relgrade score` wrote for LABELS.")
SEED = click.option("--seed", default=0, show_default=True, help="Of the draw; the same seed gives the same file.")


def audit_command(name: str | None = None) -> Callable[[_Command], click.Command]:
    """A command whose help is its docstring and ends with the exit codes."""

    def make(function: _Command) -> click.Command:
        return click.command(name, help=inspect.cleandoc(function.__doc__ or "") + _EXIT_CODES)(function)

    return make


def all_pairs(path: str) -> list[Pair]:
    """All pairs of a file."""
    from relgrade.formats import read_pairs

    return list(read_pairs(path))


def all_answers(paths: Sequence[str]) -> list[Annotation]:
    """The answers that stand in files."""
    from relgrade.audit.annotations import read_annotations

    return [answer for path in paths for answer in read_annotations(path)]


def jsonl_path(path: str) -> Path:
    """The path of a file of JSON lines."""
    if not path.endswith(".jsonl"):
        raise click.UsageError(f"{path}: a name that ends in .jsonl was expected")
    return Path(path)


def find_key(path: str | None, answer_paths: Sequence[str], answers: Sequence[Annotation]) -> SampleKey | None:
    """The key given, or the one beside the answers that is of their sample."""
    from relgrade.audit.cases import KEY_SUFFIX, read_key
    from relgrade.errors import InvalidData

    if path is not None:
        return read_key(Path(path))
    wanted = {answer.sample for answer in answers if answer.sample is not None}
    for folder in dict.fromkeys(Path(each).resolve().parent for each in answer_paths) if wanted else ():
        for found in sorted(folder.glob(f"*{KEY_SUFFIX}")):
            try:
                key = read_key(found)
            except InvalidData:  # another program's file of that name
                continue
            if key.sample in wanted:
                return key
    return None


def find_guideline(rubric: str, path: str | None) -> Guideline:
    """The guideline of a rubric, with the text of a file where one is given."""
    from relgrade.audit.guideline import guideline_for
    from relgrade.errors import InvalidData

    if path is None:
        return guideline_for(rubric)
    try:
        return guideline_for(rubric, text=Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidData(f"cannot be read: {error}", path=path) from error


def logits_of(pairs: Sequence[Pair], path: str) -> Any:
    """The logit of each pair, shape (n_pairs,)."""
    import numpy as np

    from relgrade.errors import InvalidInput
    from relgrade.pipeline.scoring import read_scores

    known = {(score.source, score.query_id, score.doc_id): score.logit for score in read_scores(Path(path))}
    known |= {(None, query_id, doc_id): logit for (_, query_id, doc_id), logit in known.items()}
    names = [(pair.source, pair.query_id, pair.doc_id) for pair in pairs]
    found = [known.get(name, known.get((None, *name[1:]))) for name in names]
    if None in found:
        raise InvalidInput(
            f"{path}: {found.count(None)} of {len(pairs)} labelled pairs have no score, the first is query "
            f"{names[found.index(None)][1]!r}; run `relgrade score` on the labels"
        )
    return np.asarray(found, dtype=np.float64)


def embedded_logits(pairs: Sequence[Pair]) -> Any:
    """What the embedded grader says of each pair, shape (n_pairs,), with its progress on stderr."""
    import numpy as np

    from relgrade.cli.progress import GradingProgress
    from relgrade.grade.grader import Grader

    sizes = [len(pair.query) + len(pair.document) for pair in pairs]
    logits, n_done = np.empty(len(pairs)), 0
    with GradingProgress("grading", total_bytes=sum(sizes)) as progress:
        for grade in Grader.load().grade_pairs((pair.query, pair.document) for pair in pairs):
            n_done += sizes[grade.index]
            logits[grade.index] = grade.logit
            progress.advance(1, n_bytes=n_done)
    return logits


def probabilities_of(logits: Any, calibration_path: str | None, threshold: float | None) -> tuple[Any, float]:
    """Probability of each logit, and the one from which a student keeps."""
    from relgrade.probability import calibrated_probability, sigmoid

    if calibration_path is None:
        return sigmoid(logits), 0.5 if threshold is None else threshold
    from relgrade.pipeline.calibrating import read_decision

    found = read_decision(Path(calibration_path))
    cut = found.operating_points[0].threshold if threshold is None else threshold
    return calibrated_probability(found.calibration, logits), cut
