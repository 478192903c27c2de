"""What a person is shown, and the key that is kept from them: draws a sample and writes and reads its two files.

The sample file holds texts under opaque names, nothing else; the key holds whose pair each is, what the teacher said
and with what chance it was drawn. Estimates need the key, annotators must not have it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from relgrade.audit.sampling import draw_units, inclusion_probabilities, probability_bins
from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.lines import dump_json, parse_json, read_json_rows
from relgrade.formats.write import replaced_file
from relgrade.records import Pair

KEY_SUFFIX = ".key.json"
SCHEMA = 1
SPLIT_DISAGREEMENT = 0.25  # from here on a pair is in the stratum of its bin on which teachers disagree
_MAX_KEY_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Case:
    """One pair to be judged. Ids are there in a relabelling queue alone: in a sample they could tell."""

    case: str  # opaque name
    query: str
    document: str
    rubric: str
    sample: str | None = None  # id of the sample it was drawn in
    queue: str | None = None  # id of the relabelling queue it stands in
    query_id: str | None = None
    doc_id: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """Whose pair a case is, and what the teacher said when it was drawn."""

    case: str
    query_id: str
    doc_id: str
    source: str | None
    label: float  # the teacher's P(relevant)
    inclusion_probability: float  # chance of the pair to be drawn, in (0, 1]
    disagreement: float | None


@dataclass(frozen=True, slots=True)
class SampleKey:
    """How a sample was drawn, and from what."""

    sample: str  # id
    seed: int
    per_query: int
    rubric: str
    n_pairs: int  # labelled pairs it was drawn from
    n_queries: int
    n_unlabelled: int  # pairs without a label, which took no part
    frame: str  # digest of the ids of those labelled pairs, in any order
    entries: tuple[KeyEntry, ...]


@dataclass(frozen=True, slots=True)
class AuditSample:
    """A draw: what people see, and the key."""

    cases: tuple[Case, ...]
    key: SampleKey


def draw_sample(
    pairs: Sequence[Pair], *, n: int, seed: int, per_query: int = 3, rubric: str | None = None
) -> AuditSample:
    """Draw a blind sample, stratified by the teacher's probability and by disagreement.

    Args:
        pairs: labelled by the teacher; field `disagreement` in [0, 1] where several teachers or samples were asked.
        n: pairs to draw.
        seed: of the draw; the same pairs and seed give the same sample.
        per_query: pairs of one query, at most.
        rubric: what "relevant" means; None: the one that field `rubric` of the pairs names.

    Raises:
        InvalidInput: nothing is labelled, fewer than n pairs can be drawn, or the pairs name several rubrics.
    """
    labelled = [pair for pair in pairs if pair.label is not None]
    if not labelled:
        raise InvalidInput(f"an audit needs labelled pairs, got none among {len(pairs)}; label them first")
    query = query_index(labelled)
    label = np.asarray([pair.label for pair in labelled], dtype=np.float64)
    disagreement = np.asarray([disagreement_of(pair) or 0.0 for pair in labelled])
    chances = inclusion_probabilities(label, query, n=n, per_query=per_query, disagreement=disagreement)
    stratum = probability_bins(label) * 2 + (disagreement >= SPLIT_DISAGREEMENT)
    generator = np.random.default_rng(seed)
    drawn = draw_units(chances, query, stratum, generator=generator)
    frame, rubric = frame_digest(labelled), rubric or common_rubric(labelled)
    sample = _digest(frame, str(seed), str(n), str(per_query))
    # Queries in random order, the pairs of one beside each other: a query is read once.
    place = generator.permutation(int(query.max()) + 1)
    shuffled = sorted(generator.permutation(drawn).tolist(), key=lambda i: int(place[query[i]]))
    names = {i: _digest(sample, str(i)) for i in shuffled}
    cases = tuple(
        Case(case=names[i], query=labelled[i].query, document=labelled[i].document, rubric=rubric, sample=sample)
        for i in shuffled
    )
    entries = tuple(
        KeyEntry(
            case=names[i],
            query_id=labelled[i].query_id,
            doc_id=labelled[i].doc_id,
            source=labelled[i].source,
            label=float(label[i]),
            inclusion_probability=float(chances[i]),
            disagreement=disagreement_of(labelled[i]),
        )
        for i in shuffled
    )
    n_queries = int(query.max()) + 1
    n_left_out = len(pairs) - len(labelled)
    key = SampleKey(sample, seed, per_query, rubric, len(labelled), n_queries, n_left_out, frame, entries)
    return AuditSample(cases, key)


def query_index(pairs: Sequence[Pair]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Index of each pair's query, 0 to n_queries - 1, in the order of first appearance."""
    seen: dict[tuple[str | None, str], int] = {}
    return np.asarray([seen.setdefault((pair.source, pair.query_id), len(seen)) for pair in pairs], dtype=np.int64)


def disagreement_of(pair: Pair) -> float | None:
    """Field `disagreement` in [0, 1]; None where there is none.

    Raises:
        InvalidInput: it is there and is no such number.
    """
    value = pair.fields.get("disagreement")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InvalidInput(f"pair {pair.query_id!r}, {pair.doc_id!r}: disagreement lies in [0, 1], got {value!r:.40}")
    return float(value)


def common_rubric(pairs: Sequence[Pair]) -> str:
    """The one rubric that the pairs name, "answer-bearing" when none does.

    Raises:
        InvalidInput: several; one sample cannot be judged by two definitions.
    """
    named = sorted({str(pair.fields["rubric"]) for pair in pairs if pair.fields.get("rubric")})
    if len(named) > 1:
        raise InvalidInput(f"the labels were made with several rubrics ({', '.join(named)}); audit one at a time")
    return named[0] if named else "answer-bearing"


def frame_digest(pairs: Sequence[Pair]) -> str:
    """A digest of the ids of pairs, whatever their order and labels."""
    total = hashlib.sha256()
    for line in sorted(dump_json([pair.source, pair.query_id, pair.doc_id]) for pair in pairs):
        total.update(line.encode("utf-8") + b"\n")
    return total.hexdigest()


def key_path(sample_path: Path) -> Path:
    """Where the key of a sample lies: `sample.jsonl` has `sample.key.json`."""
    return sample_path.with_name(sample_path.name.removesuffix(".jsonl") + KEY_SUFFIX)


def write_cases(path: Path, cases: Sequence[Case]) -> None:
    """Write a line of JSON per case; fields that are None are left out. Whole or not at all."""
    with replaced_file(path) as file:
        for case in cases:
            row = {name: value for name, value in asdict(case).items() if value is not None}
            file.write(dump_json(row).encode("utf-8") + b"\n")


def read_cases(path: Path) -> tuple[Case, ...]:
    """Inverse of `write_cases`; other fields are passed over.

    Raises:
        InvalidData: no cases, a line that is none, or a name that stands twice.
    """
    cases: dict[str, Case] = {}
    for row in read_json_rows(path):
        if isinstance(row, InvalidData):
            raise row
        values = {item.name: row.values.get(item.name) for item in fields(Case)}
        bad = [name for name in ("case", "query", "document", "rubric") if not isinstance(values[name], str)]
        bad += [name for name, value in values.items() if value is not None and not isinstance(value, str)]
        if bad:
            message = f"a case has texts `case`, `query`, `document` and `rubric`; wrong here: {', '.join(bad)}"
            raise InvalidData(message + "; `relgrade audit sample` writes such a file", path=path, line=row.line)
        case = Case(**values)  # type: ignore[arg-type]
        if case.case in cases:
            raise InvalidData(f"case {case.case!r} stands twice", path=path, line=row.line)
        cases[case.case] = case
    if not cases:
        raise InvalidData("no cases in it; `relgrade audit sample` writes such a file", path=path)
    return tuple(cases.values())


def write_key(path: Path, key: SampleKey) -> None:
    """Write the key as JSON, readable by its owner alone where the system knows owners."""
    with replaced_file(path) as file:
        file.write(dump_json({"schema": SCHEMA, **asdict(key)}).encode("utf-8") + b"\n")
    path.chmod(0o600)


def read_key(path: Path) -> SampleKey:
    """Inverse of `write_key`.

    Raises:
        InvalidData: not there, or not a key.
    """
    try:
        if path.stat().st_size > _MAX_KEY_BYTES:
            raise InvalidData(f"a key of more than {_MAX_KEY_BYTES} bytes is none", path=path)
        content: Any = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidData(f"cannot be read: {(error.strerror or str(error)).lower()}", path=path) from error
    except ValueError as error:
        raise InvalidData(f"not the key of a sample: {error}", path=path) from error
    try:
        if content.pop("schema") != SCHEMA:
            raise InvalidData(f"a key of schema {SCHEMA} was expected; update relgrade", path=path)
        entries = tuple(_entry(each) for each in content.pop("entries"))
        return SampleKey(**content, entries=entries)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidData(f"not the key of a sample: {error}", path=path) from error


def _entry(values: Mapping[str, Any]) -> KeyEntry:
    entry = KeyEntry(**values)
    if not 0.0 < float(entry.inclusion_probability) <= 1.0 or not 0.0 <= float(entry.label) <= 1.0:
        raise ValueError(f"case {entry.case!r} has a chance or a label out of range")
    return entry


def _digest(*parts: str) -> str:
    return hashlib.blake2b("\0".join(parts).encode("utf-8"), digest_size=8).hexdigest()
