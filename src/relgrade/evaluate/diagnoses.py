"""Known ways for a grader to be no grader, told from its measures, with what to try.

Each is a pattern that a good-looking number hides: accuracy without recall, precision at the base rate, a test that
counting words passes. They are said beside the measures and change none.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from relgrade.evaluate.evaluation import Evaluation
from relgrade.evaluate.rows import Floats, Rows

MIN_RELEVANT = 10  # of a class; fewer say nothing about how it is judged
HIGH_ACCURACY, LOW_RECALL = 0.8, 0.2
NEAR_BASE_RATE = 1.1  # precision over base rate
SHIFTED = math.log(2.0)  # between the odds that are told and those that are there
EASY_AUROC = 0.9  # of word overlap


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A failure that was recognised."""

    name: str
    found: str  # a sentence with the numbers that show it
    remedy: str  # a sentence: what to try

    @property
    def sentence(self) -> str:
        """All of it, for a reader."""
        return f"{self.name[0].upper()}{self.name[1:]}: {self.found} {self.remedy}"


def diagnose(
    rows: Rows, grader: Evaluation, *, probabilities: Floats | None = None, word_overlap: Evaluation | None = None
) -> Iterator[Diagnosis]:
    """What is wrong with a grader, the gravest first.

    Args:
        rows: the labels.
        grader: its measures on them.
        probabilities: what it says, shape (n_pairs,); None: it says none.
        word_overlap: measures of a baseline that counts words, BM25 say, on the same rows.
    """
    n_relevant = int(rows.relevant.sum())
    if min(n_relevant, rows.n_pairs - n_relevant) < MIN_RELEVANT:
        return
    base_rate = n_relevant / rows.n_pairs
    yield from _of_ranking(grader, base_rate)
    yield from _of_verdicts(grader, base_rate)
    if probabilities is not None:
        yield from _of_probabilities(float(np.mean(probabilities)), base_rate)
    if word_overlap is not None:
        yield from _of_words(grader, word_overlap)


def _of_ranking(grader: Evaluation, base_rate: float) -> Iterator[Diagnosis]:
    auroc = grader.auroc
    if auroc.value is None or auroc.low is None or auroc.high is None:
        return
    found = f"AUROC is {auroc.value:.3f} ({auroc.low:.3f} to {auroc.high:.3f}), and 0.5 is chance;"
    if auroc.high < 0.5:
        yield Diagnosis(
            "ranked upside down",
            f"{found} irrelevant documents score higher.",
            "Look for labels or scores with the signs or classes exchanged.",
        )
    elif auroc.low <= 0.5:
        yield Diagnosis(
            "nothing learned",
            f"{found} precision cannot rise above the base rate of {base_rate:.3f} then.",
            "Train the encoder too where it was frozen, raise the learning rate or the steps, and look at the loss: it "
            "should fall below that of the base rate alone.",
        )


def _of_verdicts(grader: Evaluation, base_rate: float) -> Iterator[Diagnosis]:
    recall, precision, accuracy = grader.recall.value, grader.precision.value, grader.accuracy.value
    if recall is None or accuracy is None:
        return
    if recall == 0.0 and precision is None:
        yield Diagnosis(
            "one class predicted",
            f"it keeps nothing, and is right about {accuracy:.1%} of the rows by that.",
            "Choose a threshold on calibration queries (relgrade calibrate) instead of 0.5; with few relevant pairs, "
            "train with class weights or undersampling (balance), which relgrade corrects the probabilities for.",
        )
    elif recall == 1.0 and precision is not None and math.isclose(precision, base_rate):
        yield Diagnosis(
            "one class predicted",
            f"it keeps everything, so its precision is the base rate, {base_rate:.3f}.",
            "Choose a threshold on calibration queries (relgrade calibrate).",
        )
    elif accuracy >= HIGH_ACCURACY and recall <= LOW_RECALL:
        yield Diagnosis(
            "accuracy hides the recall",
            f"accuracy is {accuracy:.3f}, and {recall:.1%} of the relevant rows are kept; keeping nothing would have "
            f"accuracy {1 - base_rate:.3f}.",
            "Judge by precision and recall; lower the threshold on calibration queries, or train with more relevant "
            "pairs (balance).",
        )
    elif precision is not None and recall > LOW_RECALL and precision <= NEAR_BASE_RATE * base_rate:
        yield Diagnosis(
            "precision stuck at the base rate",
            f"precision is {precision:.3f} where keeping everything has {base_rate:.3f}.",
            "Where the ranking is good (AUROC), choose a higher threshold on calibration queries; where it is not, the "
            "head has not learned: train the encoder too, or longer.",
        )


def _of_probabilities(mean: float, base_rate: float) -> Iterator[Diagnosis]:
    mean = min(max(mean, 1e-6), 1 - 1e-6)
    shift = math.log(mean / (1 - mean)) - math.log(base_rate / (1 - base_rate))
    if abs(shift) >= SHIFTED:
        yield Diagnosis(
            "probabilities are shifted",
            f"they say {mean:.3f} on average where {base_rate:.3f} is relevant, {shift:+.2f} in log-odds.",
            "Training on balanced pairs does this, and so does another base rate: calibrate on pairs at the rate of "
            "your collection (relgrade calibrate), or tell it the rate (--base-rate).",
        )


def _of_words(grader: Evaluation, words: Evaluation) -> Iterator[Diagnosis]:
    mine, theirs = grader.auroc.value, words.auroc.value
    if mine is None or theirs is None:
        return
    if theirs >= EASY_AUROC and theirs >= mine - 0.02:
        yield Diagnosis(
            "word overlap explains the labels",
            f"counting shared words has AUROC {theirs:.3f}, the grader {mine:.3f}.",
            "These pairs cannot tell a grader from a search engine, perhaps because the irrelevant ones were drawn at "
            "random: add near misses, such as what your retriever ranks high and people reject.",
        )
