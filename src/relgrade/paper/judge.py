"""A judge behind a server, asked by the teacher client: a row like any other, at whatever it costs.

What was answered stands in a journal, so that nothing is paid for twice. A reply that does not parse is a third state.
"""

import time
from collections.abc import Callable
from pathlib import Path

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


def ask_judge(
    row: RowSettings,
    settings: PaperSettings,
    samples: Samples,
    *,
    folder: Path,
    on_piece: Callable[[str, int, int], None],
) -> Asked:
    """Ask `row.model` at `row.url` about every test pair, in the words of `row.rubric`.

    Raises:
        TeacherError: the server refuses every request, or has stopped answering; answers before that are kept.
        InvalidSettings: no such rubric.
    """
    pairs = samples.tested()
    plan = Plan(read_rubric(row.rubric), (Teacher(url=row.url, model=row.model),))
    started_s = time.monotonic()
    done = label_pairs(
        lambda: iter(pairs),
        plan,
        journal=folder / "judge.journal",
        on_progress=lambda progress: on_piece("ask", progress.n_done, len(pairs)),
    )
    labels = [(pair, label) for pair, label in read_labels(lambda: iter(pairs), plan, journal=folder / "judge.journal")]
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
            "n_requests": done.spent.requests,
        },
    )
