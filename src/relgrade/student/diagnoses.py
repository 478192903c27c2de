"""What a finished training says about itself: whether it learned anything, and whether padding changes its logits.

Failures of the kind that end in plausible files: the run goes through, the bundle loads, and every verdict is the base
rate. `evaluate.diagnoses` tells the same failures from measures on labelled pairs.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relgrade.records import Pair
from relgrade.settings import StudentSettings, TrainingSettings
from relgrade.student.student import Student

LEARNED = 0.98  # of the loss of the base rate alone; a loss above it has found nothing in the pairs
MIN_ROWS = 5  # of the journal, before its end is believed
END = 3  # the last third of the rows is the end: a row alone may cover a hundred pairs
DOUBT = 2.0  # standard errors by which the end may seem better than it is, where only the share in all pairs is known
ADAPTER_RATE = 2e-4  # below it adapters are known to learn little
N_PROBES = 16
MAX_DIFFERENCE = 0.05  # of a logit between a batch and the pair alone; bf16 moves it by less


def diagnose_training(
    history: Sequence[Mapping[str, Any]],
    labels: Sequence[float],
    *,
    student: StudentSettings,
    training: TrainingSettings,
    positive_weight: float = 1.0,
    has_adapters: bool = False,
) -> Iterator[str]:
    """Sentences about a training that learned nothing.

    A training whose loss ends near that of one answer for every pair has found nothing beyond the base rate. Only for
    binary cross-entropy. The two are compared on the same pairs, those of the journal's last rows: the share of
    relevant ones among some hundred pairs differs from that of all by more than a little learning is worth. Rows
    without `constant_loss`, of runs that older versions began, are held against all labels, and in doubt nothing was
    learned; a small gain on few pairs is then missed.

    Args:
        history: rows of the journal; `loss` in some of them.
        labels: of the training pairs, in [0, 1], before smoothing.
        student: what was trained.
        training: how.
        positive_weight: of the relevant side of the loss, > 0.
        has_adapters: low-rank adapters were trained, and no other weight of the encoder.
    """
    rows = [row for row in history if "loss" in row]
    if training.loss != "binary-cross-entropy" or len(rows) < MIN_ROWS or not labels:
        return
    last = rows[-max(2, len(rows) // END) :]
    losses = [float(row["loss"]) for row in last]
    if all("constant_loss" in row for row in last):
        reference, doubt = statistics.fmean(float(row["constant_loss"]) for row in last), 0.0
    else:
        rate = sum(labels) / len(labels) * (1.0 - training.label_smoothing) + training.label_smoothing / 2
        reference = _base_rate_loss(rate, positive_weight)
        doubt = DOUBT * statistics.stdev(losses) / math.sqrt(len(losses))
    end = statistics.fmean(losses)
    if reference > 0 and end + doubt >= LEARNED * reference:
        yield (
            f"little or nothing learned: the loss ends at {end:.3f}, and answering every pair with the base rate has "
            f"{reference:.3f}. {_remedy(student, training, has_adapters)}"
        )


def diagnose_padding(student: Student, pairs: Sequence[Pair]) -> Iterator[str]:
    """Sentences about logits that depend on the other pairs of a batch.

    Args:
        student: in any mode; put back into it.
        pairs: some are taken, the shortest and the longest among them.
    """
    lengths = student.count_tokens(pairs)
    order = sorted(range(len(pairs)), key=lambda i: lengths[i])
    step = max(1, len(order) // N_PROBES)
    chosen = [pairs[i] for i in [*order[::step][: N_PROBES - 1], *order[-1:]]]
    together = student.score(chosen, batch_pairs=len(chosen))
    alone = student.score(chosen, batch_pairs=1)
    worst = max(range(len(chosen)), key=lambda i: abs(together[i] - alone[i]))
    difference = abs(together[worst] - alone[worst])
    if not difference <= MAX_DIFFERENCE:
        yield (
            f"padding changes logits: query {chosen[worst].query_id!r}, document {chosen[worst].doc_id!r} has "
            f"{alone[worst]:+.3f} alone and {together[worst]:+.3f} in a batch. The padding token is being read: check "
            "that the tokenizer has one, that the model's config names it (pad_token_id), and that the last real token "
            "is pooled and not the last position."
        )


def _base_rate_loss(rate: float, positive_weight: float) -> float:
    """Lowest mean loss of one logit for all pairs, for a share `rate` of relevant ones."""
    weighed = positive_weight * rate
    total = weighed + 1 - rate
    if not 0 < weighed < total:
        return 0.0
    best = weighed / total
    return -(weighed * math.log(best) + (1 - rate) * math.log(1 - best))


def _remedy(student: StudentSettings, training: TrainingSettings, has_adapters: bool) -> str:
    rate = f"training.learning_rate is {training.learning_rate:g}"
    if has_adapters and training.learning_rate < ADAPTER_RATE:
        return f"Adapters want a higher rate than full training, about 2e-4, and alpha at least the rank; {rate}."
    if has_adapters:
        return f"Give the adapters more steps, or a lower rate, and alpha at least the rank; {rate}."
    if not student.train_encoder and student.architecture == "cross-encoder":
        return (
            "The backbone is frozen and its pooled state may not say what the head needs: set student.train_encoder, "
            "or take architecture 'interaction', which compares texts."
        )
    return f"Raise the learning rate or the epochs, or look whether labels are exchanged; {rate}."
