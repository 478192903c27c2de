"""Scores pairs in pieces, each written down when it is done, so that a killed row does not score a pair twice."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relgrade.formats.journal import JsonlJournal
from relgrade.formats.lines import Row, read_json_rows
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair
from relgrade.settings import TrainingSettings
from relgrade.student.student import Student

Key = tuple[str, str]
PIECE = 128  # pairs between two writes


def score_in_pieces(
    pairs: Sequence[Pair],
    path: Path,
    score: Callable[[Sequence[Pair]], Sequence[Mapping[str, Any]]],
    *,
    piece: int = PIECE,
    on_piece: Callable[[int, int], None] | None = None,
) -> dict[Key, dict[str, Any]]:
    """What `score` says of each pair, from the file where it stands there already.

    Args:
        pairs: in the order they are to be scored; those of like length side by side are quickest.
        path: a file of JSON lines, made.
        score: a piece of pairs -> JSON for each, in order.
        piece: pairs between two writes.
        on_piece: is told how many pairs are scored, of how many.

    Returns:
        By (query_id, doc_id), of the pairs given.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with JsonlJournal(path, key=_name) as journal:
        waiting = [
            pair for pair in pairs if _name({"query_id": pair.query_id, "doc_id": pair.doc_id}) not in journal.done
        ]
        for start in range(0, len(waiting), piece):
            chosen = waiting[start : start + piece]
            said = score(chosen)
            journal.append(
                [
                    {"query_id": pair.query_id, "doc_id": pair.doc_id, **each}
                    for pair, each in zip(chosen, said, strict=True)
                ]
            )
            if on_piece is not None:
                on_piece(len(pairs) - len(waiting) + start + len(chosen), len(pairs))
    wanted = {(pair.query_id, pair.doc_id) for pair in pairs}
    rows = (dict(row.values) for row in read_json_rows(path) if isinstance(row, Row))
    return {key: row for row in rows if (key := (row["query_id"], row["doc_id"])) in wanted}


def score_logits(
    student: Student,
    pairs: Sequence[Pair],
    path: Path,
    *,
    training: TrainingSettings,
    on_piece: Callable[[int, int], None] | None = None,
) -> dict[Key, float]:
    """The logit of each pair, by (query_id, doc_id), from the file where it stands there already.

    Args:
        student: trained.
        pairs: in any order; the longest are scored first.
        path: as of `score_in_pieces`.
        training: `batch_pairs` and `batch_tokens` bound a batch.
        on_piece: as of `score_in_pieces`.
    """
    lengths = student.count_tokens(pairs)
    ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: -lengths[i])]
    batch_pairs = max(1, min(training.batch_pairs, training.batch_tokens // max(lengths)))
    rows = score_in_pieces(
        ordered,
        path,
        lambda piece: [{"logit": logit} for logit in student.score(piece, batch_pairs=batch_pairs)],
        on_piece=on_piece,
    )
    return {key: float(row["logit"]) for key, row in rows.items()}


def reading_device() -> torch.device:
    """Where a model that is not trained reads: a GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reading_precision(settings: PaperSettings, model: nn.Module) -> AbstractContextManager[Any]:
    """Inside, the model computes in bfloat16 where the table says so; its weights stay float32."""
    device = next(model.parameters()).device.type
    return torch.autocast(device, torch.bfloat16, enabled=settings.reads_in_bf16)


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['query_id']}\t{row['doc_id']}"
