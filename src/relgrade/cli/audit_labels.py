"""The commands of `relgrade audit` that read labels and answers: report, relabel, apply."""

from __future__ import annotations

from collections.abc import Sequence

import click

from relgrade.cli import outcome
from relgrade.cli.audit_files import (
    KEY,
    LABELS,
    SCORES,
    SEED,
    all_answers,
    all_pairs,
    audit_command,
    embedded_logits,
    find_key,
    jsonl_path,
    logits_of,
    probabilities_of,
)


@audit_command()
@LABELS
@click.argument("answer_paths", metavar="ANSWERS...", nargs=-1, required=True, type=click.Path())
@KEY
@SCORES
@click.option("--calibration", "calibration_path", type=click.Path(), help="What `relgrade calibrate` wrote.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Probability from which the student keeps.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object in place of text.")
@SEED
def report(
    labels_path: str,
    answer_paths: Sequence[str],
    key_path: str | None,
    scores_path: str | None,
    calibration_path: str | None,
    threshold: float | None,
    is_json: bool,
    seed: int,
) -> None:
    """Say what the labels are worth.

    ANSWERS are what `audit serve` or `audit import` wrote, or pairs that people labelled (query_id, doc_id, label).
    Agreement of teacher and people, errors of the teacher, the share relevant, and with --scores the precision and
    recall of a student, all weighted back to LABELS, with 95 % intervals that draw whole queries. The threshold is
    that of --calibration, or 0.5.
    """
    from dataclasses import asdict

    from relgrade.audit import StudentVerdicts, audit_labels
    from relgrade.cli.audit_report import report_lines
    from relgrade.formats.lines import dump_json

    if scores_path is None and (calibration_path is not None or threshold is not None):
        raise click.UsageError("--calibration and --threshold say what a student keeps and need --scores")
    pairs = [pair for pair in all_pairs(labels_path) if pair.label is not None]
    answers = all_answers(answer_paths)
    student = None
    if scores_path is not None:
        logits = logits_of(pairs, scores_path)
        probability, cut = probabilities_of(logits, calibration_path, threshold)
        student = StudentVerdicts(logits, probability >= cut, cut)
    found = audit_labels(pairs, answers, key=find_key(key_path, answer_paths, answers), student=student, seed=seed)
    if is_json:
        click.echo(dump_json(asdict(found)))
        return
    for line in report_lines(found):
        click.echo(line if not line else outcome.escape_controls(line))


@audit_command()
@LABELS
@click.option("-o", "--output", required=True, type=click.Path(), help="File of pairs without labels.")
@click.option(
    "--annotations", "answer_paths", multiple=True, type=click.Path(), help="Pairs judged there are left out."
)
@KEY
@SCORES
@click.option("--embedded", "is_embedded", is_flag=True, help="Score with the embedded grader: slower, far better.")
@click.option("-n", "--n", "n", type=click.IntRange(min=1), help="How many; default: all, the surest doubts first.")
@SEED
def relabel(
    labels_path: str,
    output: str,
    answer_paths: Sequence[str],
    key_path: str | None,
    scores_path: str | None,
    is_embedded: bool,
    n: int | None,
    seed: int,
) -> None:
    """Write the queue of labels most likely wrong.

    `audit serve` shows it to a person, `relgrade label` sends it to a second teacher; neither is told the label. What
    comes back is merged by `audit apply`, and says nothing about all pairs: the queue was picked, not drawn.
    """
    from relgrade.audit.judged import join_answers
    from relgrade.audit.relabel import relabel_queue, write_queue
    from relgrade.audit.suspects import suspect_labels

    if is_embedded and scores_path is not None:
        raise click.UsageError("--embedded scores the pairs itself and takes no --scores")
    path, answers = jsonl_path(output), all_answers(answer_paths)
    pairs = [pair for pair in all_pairs(labels_path) if pair.label is not None]
    logits = None if scores_path is None else logits_of(pairs, scores_path)
    judged = (
        join_answers(pairs, answers, key=find_key(key_path, answer_paths, answers)).index.tolist() if answers else []
    )
    if is_embedded:
        logits = embedded_logits(pairs)
    suspicion = suspect_labels(pairs, logits=logits, seed=seed)
    queue = relabel_queue(pairs, suspicion, judged=judged, n=n)
    write_queue(path, queue)
    outcome.warn(f"{len(queue):,} pairs written to {path}, ordered by {suspicion.evidence}")


@audit_command()
@LABELS
@click.argument("answer_paths", metavar="ANSWERS...", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="File of labels to write.")
@click.option("--teacher", is_flag=True, help="ANSWERS are labels of a second teacher.")
@click.option("--by", help="Name of the second teacher; default: field model.")
@KEY
def apply(
    labels_path: str, answer_paths: Sequence[str], output: str, teacher: bool, by: str | None, key_path: str | None
) -> None:
    """Merge corrections into LABELS.

    The last answer wins, of several people the majority. What a label was, and who gave it, moves to field
    `label_history`. Applying the same answers again changes nothing.
    """
    from relgrade.audit.relabel import apply_corrections, corrections_from_labels, corrections_from_people
    from relgrade.formats import write_pairs

    if teacher:
        corrections = [each for path in answer_paths for each in corrections_from_labels(all_pairs(path), by=by)]
    else:
        answers = all_answers(answer_paths)
        corrections = corrections_from_people(answers, key=find_key(key_path, answer_paths, answers))
    done = apply_corrections(all_pairs(labels_path), corrections)
    write_pairs(output, done.pairs)
    unknown = f", {done.n_unknown:,} about pairs that are not there" if done.n_unknown else ""
    outcome.warn(
        f"{len(done.pairs):,} pairs written to {output}: {done.n_changed:,} verdicts turned, {done.n_confirmed:,} "
        f"confirmed{unknown}"
    )
