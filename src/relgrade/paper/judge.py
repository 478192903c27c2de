"""A judge behind a server, asked by the teacher client: a row like any other, at whatever it costs.

What was answered stands in a journal, so that nothing is paid for twice. A reply that does not parse is a third state.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from relgrade.encoding import first_words
from relgrade.errors import TeacherError
from relgrade.label.journal import Journal
from relgrade.label.labelling import label_pairs
from relgrade.label.output import read_labels
from relgrade.label.plan import Plan
from relgrade.label.rubric import read_rubric
from relgrade.label.teacher import Teacher
from relgrade.paper.prompted import Asked
from relgrade.paper.readings import Reply
from relgrade.paper.samples import Samples, pair_key
from relgrade.paper.settings import PaperSettings, RowSettings
from relgrade.probability import log_odds
from relgrade.records import Pair
from relgrade.student.templates import MAX_DOCUMENT_WORDS


def ask_judge(
    row: RowSettings,
    settings: PaperSettings,
    samples: Samples,
    *,
    folder: Path,
    on_piece: Callable[[str, int, int], None],
) -> Asked:
    """Ask `row.model` at `row.url` about every test pair, in the words of `row.rubric`.

    Documents are cut to 300 words, as in the prompt of the models that are trained here.

    Raises:
        TeacherError: the server refused a request, or stopped answering; answers before and after that are kept.
        InvalidSettings: no such rubric.
    """
    pairs = [replace(pair, document=first_words(pair.document, MAX_DOCUMENT_WORDS)) for pair in samples.tested()]
    plan = Plan(read_rubric(row.rubric), (Teacher(url=row.url, model=row.model),))
    # Pairs that read the same are one request.
    n_requests = len({job.key for pair in pairs for job in plan.jobs(pair)})
    started_s = time.monotonic()
    path = folder / "judge.journal"
    label_pairs(
        lambda: iter(pairs),
        plan,
        journal=path,
        on_progress=lambda progress: on_piece("ask", progress.n_done, n_requests),
    )
    with Journal(path) as journal:
        _require_replies(pairs, plan, journal)
        spent = journal.totals()
    labels = list(read_labels(lambda: iter(pairs), plan, journal=path))
    is_soft = plan.rubric.methods != ("text",) and all(label.probability is not None for _, label in labels)
    replies = {
        pair_key(pair): Reply(
            None if label.label is None else bool(label.label),
            (label.reply or label.error or "")[:80],
            log_odds(label.probability) if is_soft and label.probability is not None else None,
        )
        for pair, label in labels
    }
    return Asked(
        replies=replies,
        has_probabilities=is_soft,
        n_parameters=None,
        seconds=time.monotonic() - started_s,
        details={
            "input_tokens": sum(label.input_tokens for _, label in labels),
            "output_tokens": sum(label.output_tokens for _, label in labels),
            "n_requests": spent.requests,
        },
    )


def _require_replies(pairs: Sequence[Pair], plan: Plan, journal: Journal) -> None:
    """A request without a reply says nothing of the judge: counted as one that does not parse, it would stay so."""
    keys = {job.key: pair for pair in pairs for job in plan.jobs(pair)}
    answers, failures = journal.answers(list(keys)), journal.failures(list(keys))
    missing = [key for key in keys if key not in answers]
    if missing:
        pair = keys[missing[0]]
        reason = failures.get(missing[0], "another process is asking")
        raise TeacherError(
            f"{len(missing)} of {len(keys)} requests had no reply, the first about query {pair.query_id!r} and "
            f"document {pair.doc_id!r}: {reason}. What was answered is in the journal, and "
            "the same command asks for the rest alone"
        )
