"""The same measures on parts of the data, by the value of a field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from relgrade.errors import InvalidInput
from relgrade.evaluate.evaluation import Evaluation, evaluate_scores

MAX_SLICES = 40
OTHERS = "(all others)"
NOTHING = "(none)"  # a row without the field


@dataclass(frozen=True, slots=True)
class Slices:
    """Evaluations by value of one field, largest slice first."""

    field: str
    members: Mapping[str, Evaluation]


def evaluate_slices(
    field: str,
    values: Sequence[Any],
    *,
    scores: Any,
    labels: Any,
    query_ids: Any,
    threshold: float | None,
    probabilities: Any = None,
    is_kept: Any = None,
    grades: Any = None,
    is_answerable: Any = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> Slices:
    """Evaluate each value of a field by itself; a query whose documents differ in it counts in several.

    Args:
        field: its name.
        values: of each row, None where it has none, shape (n_pairs,). Beyond the `MAX_SLICES` largest they are taken
            together.
        scores: as in `evaluate_scores`, as all that follows. A query counts as unanswerable when it is so in the whole
            data.
        labels: see there.
        query_ids: see there.
        threshold: see there.
        probabilities: see there.
        is_kept: see there.
        grades: see there.
        is_answerable: see there.
        n_draws: of the bootstrap of each slice.
        seed: of the bootstrap.

    Raises:
        InvalidInput: no row has the field; else as `evaluate_scores`.
    """
    names = np.asarray([NOTHING if value is None else _name(value) for value in values], dtype=object)
    if (names == NOTHING).all():
        raise InvalidInput(f"no row has the field {field!r} to slice by")
    names = _merged(names)
    relevant, ids = np.asarray(labels, dtype=np.float64), np.asarray(query_ids)
    if is_answerable is None:
        query = np.unique(ids, return_inverse=True)[1]
        is_answerable = (np.bincount(query, weights=relevant) > 0)[query]
    arrays = {"probabilities": probabilities, "is_kept": is_kept, "grades": grades, "is_answerable": is_answerable}
    sizes = {name: int((names == name).sum()) for name in dict.fromkeys(names.tolist())}
    members = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        rows = names == name
        parts = {key: None if array is None else np.asarray(array)[rows] for key, array in arrays.items()}
        members[name] = evaluate_scores(
            np.asarray(scores)[rows],
            relevant[rows],
            ids[rows],
            threshold=threshold,
            n_draws=n_draws,
            seed=seed,
            **parts,
        )
    return Slices(field, members)


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(value).split())[:120] or NOTHING


def _merged(names: Any) -> Any:
    values, counts = np.unique(names.astype(str), return_counts=True)
    if values.size <= MAX_SLICES:
        return names
    kept = set(values[np.lexsort((values, -counts))][: MAX_SLICES - 1].tolist())
    return np.asarray([name if name in kept else OTHERS for name in names], dtype=object)
