"""Joins people's answers to the pairs they are about, with the weight of each pair. It computes no measure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.audit.annotations import Annotation
from relgrade.audit.cases import KeyEntry, SampleKey, frame_digest
from relgrade.audit.guideline import GRADED_CUT
from relgrade.errors import InvalidInput
from relgrade.records import Pair

LABEL_BY = "label_by"  # field: who gave a label that replaced another
_Name = tuple[str | None, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The pairs that people judged."""

    index: NDArray[np.int64]  # of the pair among all, rising, shape (n_judged,)
    answers: NDArray[np.float64]  # NaN where a person gave none, shape (n_judged, n_annotators)
    weights: NDArray[np.float64]  # 1 / inclusion probability, shape (n_judged,)
    annotators: tuple[str, ...]  # in alphabetical order
    scale: str  # "binary" or "graded"
    n_drawn: int | None  # pairs of the sample, judged or not; None: no sample was drawn
    n_set_aside: int  # answers that take no part: of a relabelling queue, or about other pairs

    @property
    def is_relevant(self) -> NDArray[np.float64]:
        """1 or 0 a person, NaN where there is none, shape (n_judged, n_annotators)."""
        cut = GRADED_CUT if self.scale == "graded" else 1
        return np.where(np.isnan(self.answers), np.nan, (self.answers >= cut).astype(np.float64))

    @property
    def relevance(self) -> NDArray[np.float64]:
        """Share of people who said relevant, in [0, 1], shape (n_judged,)."""
        return np.asarray(np.nanmean(self.is_relevant, axis=1))

    @property
    def grade(self) -> NDArray[np.int64]:
        """Median answer, the lower one between two, shape (n_judged,)."""
        return np.asarray(np.nanquantile(self.answers, 0.5, axis=1, method="lower")).astype(np.int64)


def join_answers(pairs: Sequence[Pair], annotations: Sequence[Annotation], *, key: SampleKey | None = None) -> Judged:
    """Find the pair of each answer.

    Args:
        pairs: labelled, all that the sample was drawn from; their labels may be others than then.
        annotations: that stand. Answers of a relabelling queue are set aside, since those pairs were picked.
        key: of the sample that was drawn; None: the answers name ids and their pairs count as drawn with equal chances.

    Raises:
        InvalidInput: answers of a sample without its key, pairs the sample was not drawn from, labels that these people
            gave themselves, two scales, or no answer.
    """
    own = [each for each in annotations if each.queue is None]
    drawn = [each for each in own if each.sample is not None]
    if drawn and key is None:
        raise InvalidInput("these answers are about a drawn sample; give its key, which lies beside the sample file")
    if key is not None:
        _check_key(pairs, key, drawn)
        own = [each for each in drawn if each.sample == key.sample]
    found = _by_pair(pairs, own, key)
    if not found:
        raise InvalidInput(f"none of {len(annotations)} answers is about one of these {len(pairs)} labelled pairs")
    scales = sorted({each.scale for answers in found.values() for each in answers.values()})
    if len(scales) > 1:
        raise InvalidInput("some answers are binary and some graded; report on one scale at a time")
    _check_not_their_own(pairs, found)
    index = np.asarray(sorted(found), dtype=np.int64)
    people = tuple(sorted({name for answers in found.values() for name in answers}))
    answers = np.full((index.size, len(people)), np.nan)
    for row, place in enumerate(index.tolist()):
        for name, each in found[place].items():
            answers[row, people.index(name)] = each.answer
    chance = {} if key is None else {_name(entry): entry.inclusion_probability for entry in key.entries}
    weights = np.asarray([1.0 / chance.get(_name(pairs[place]), 1.0) for place in index.tolist()])
    return Judged(
        index=index,
        answers=answers,
        weights=weights,
        annotators=people,
        scale=scales[0],
        n_drawn=None if key is None else len(key.entries),
        n_set_aside=len(annotations) - sum(map(len, found.values())),
    )


def _check_key(pairs: Sequence[Pair], key: SampleKey, drawn: Sequence[Annotation]) -> None:
    others = sorted({str(each.sample) for each in drawn} - {key.sample})
    if others or not drawn:
        raise InvalidInput(f"the key is of sample {key.sample}, the answers are about {', '.join(others) or 'none'}")
    if frame_digest(pairs) != key.frame:
        raise InvalidInput(
            f"the sample was drawn from {key.n_pairs} other labelled pairs than these {len(pairs)}; its chances say "
            "nothing about them: give the file it was drawn from (new labels on the same pairs are fine)"
        )


def _check_not_their_own(pairs: Sequence[Pair], found: Mapping[int, Mapping[str, Annotation]]) -> None:
    """People always agree with labels that came from them; such a report would praise the teacher for it."""
    own = [i for i, answers in found.items() if set(str(pairs[i].fields.get(LABEL_BY, "")).split(", ")) & set(answers)]
    if own:
        raise InvalidInput(
            f"{len(own)} of {len(found)} judged pairs carry labels that these people gave (field `{LABEL_BY}`); report "
            "on the labels from before `relgrade audit apply`"
        )


def _by_pair(
    pairs: Sequence[Pair], own: Sequence[Annotation], key: SampleKey | None
) -> dict[int, dict[str, Annotation]]:
    """Index of the pair -> annotator -> answer."""
    places: dict[_Name, int] = {_name(pair): i for i, pair in enumerate(pairs)}
    for i, pair in enumerate(pairs):  # an answer need not name the source
        places.setdefault((None, pair.query_id, pair.doc_id), i)
    entries: Mapping[str, KeyEntry] = {} if key is None else {entry.case: entry for entry in key.entries}
    found: dict[int, dict[str, Annotation]] = {}
    for each in own:
        entry = entries.get(each.case or "")
        if key is not None and entry is None:
            continue
        name = _name(entry) if entry else (each.source, str(each.query_id), str(each.doc_id))
        if name in places:
            found.setdefault(places[name], {})[each.annotator] = each
    return found


def _name(thing: Pair | KeyEntry) -> _Name:
    return (thing.source, thing.query_id, thing.doc_id)
