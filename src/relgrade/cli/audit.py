"""`relgrade audit`: samples for people, the page to judge them, Label Studio; the other commands are in `audit_labels`.

It knows options and files; what is computed stands in `relgrade.audit`.
"""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

import click

from relgrade.cli import outcome
from relgrade.cli.audit_files import LABELS, SEED, all_pairs, audit_command, find_guideline, jsonl_path
from relgrade.cli.audit_labels import apply, relabel, report

_SAMPLE = click.argument("sample_path", metavar="SAMPLE", type=click.Path())
_RUBRIC = click.option("--rubric", help="What relevant means; default: what the file says.")
_GUIDELINE = click.option("--guideline", "guideline_path", type=click.Path(), help="Text file for the annotators.")


@audit_command()
@LABELS
@click.option("-o", "--output", required=True, type=click.Path(), help="File for annotators; the key lies beside it.")
@click.option("-n", "--n", "n", default=200, show_default=True, type=click.IntRange(min=1), help="Pairs to draw.")
@click.option("--per-query", default=3, show_default=True, type=click.IntRange(min=1), help="Of one query, at most.")
@_RUBRIC
@SEED
def sample(labels_path: str, output: str, n: int, per_query: int, rubric: str | None, seed: int) -> None:
    """Draw a blind sample.

    Pairs are drawn by the teacher's probability, a few a query, more of those on which teachers disagree. OUT holds
    texts alone; OUT with .key.json in place of .jsonl holds the teacher's labels and each pair's chance to be drawn.
    Keep the key from the annotators, the report needs it.
    """
    from relgrade.audit.cases import draw_sample, key_path, write_cases, write_key

    path = jsonl_path(output)
    drawn = draw_sample(all_pairs(labels_path), n=n, seed=seed, per_query=per_query, rubric=rubric)
    write_key(key_path(path), drawn.key)
    write_cases(path, drawn.cases)
    n_queries = len({entry.query_id for entry in drawn.key.entries})
    left_out = f"; {drawn.key.n_unlabelled:,} pairs without a label took no part" if drawn.key.n_unlabelled else ""
    outcome.warn(f"{len(drawn.cases):,} pairs of {n_queries:,} queries written to {path}{left_out}")
    outcome.warn(f"{key_path(path)} is the key: the report needs it, annotators must not see it")


@audit_command()
@_SAMPLE
@click.option("-o", "--output", required=True, type=click.Path(), help="File of answers, taken up where it ends.")
@click.option("--annotator", "annotators", multiple=True, required=True, help="Who judges; may be repeated.")
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--open/--no-open", "is_opened", default=True, show_default=True, help="Open a browser.")
@_RUBRIC
@_GUIDELINE
def serve(
    sample_path: str,
    output: str,
    annotators: Sequence[str],
    port: int,
    is_opened: bool,
    rubric: str | None,
    guideline_path: str | None,
) -> None:
    """Judge a sample, or a relabelling queue, in the browser.

    The page is served to this machine alone. Each answer is on the disk before the next pair is shown; stopped in any
    way, the same command goes on where it was. Ctrl-C ends it.
    """
    from relgrade.audit.annotating import Annotating
    from relgrade.audit.annotations import AnnotationLog
    from relgrade.audit.cases import read_cases
    from relgrade.audit.server import AnnotationServer

    cases = read_cases(Path(sample_path))
    guideline = find_guideline(rubric or cases[0].rubric, guideline_path)
    with AnnotationLog(jsonl_path(output)) as log:
        annotating = Annotating(cases, guideline, log=log, annotators=annotators)
        with AnnotationServer(annotating, port=port) as server:
            click.echo(server.url)
            for name in annotating.annotators:
                state = annotating.state(name)
                outcome.warn(f"{name}: {state.n_answered} of {state.n_cases} pairs judged; Ctrl-C ends")
            if is_opened:
                _open_browser(server.url)
            try:
                server.serve_forever(poll_interval=0.2)
            except KeyboardInterrupt:
                outcome.warn(f"stopped; every answer is in {output}")


@audit_command()
@_SAMPLE
@click.option("-o", "--output", required=True, type=click.Path(), help="JSON file of tasks; an .xml is written beside.")
@_RUBRIC
@_GUIDELINE
def export(sample_path: str, output: str, rubric: str | None, guideline_path: str | None) -> None:
    """Write a sample as Label Studio tasks.

    OUT is imported into a project; the .xml beside it goes into the project's labelling interface.
    """
    from relgrade.audit.cases import read_cases
    from relgrade.audit.label_studio import labelling_interface, tasks
    from relgrade.formats.lines import dump_json
    from relgrade.formats.write import replaced_file

    cases, path = read_cases(Path(sample_path)), Path(output)
    interface = labelling_interface(find_guideline(rubric or cases[0].rubric, guideline_path))
    for target, text in ((path, dump_json(tasks(cases)) + "\n"), (path.with_suffix(".xml"), interface)):
        with replaced_file(target) as file:
            file.write(text.encode("utf-8"))
    outcome.warn(f"{len(cases):,} tasks written to {path}, the labelling interface to {path.with_suffix('.xml')}")


@audit_command("import")
@click.argument("export_path", metavar="EXPORT", type=click.Path())
@click.option("--sample", "sample_path", required=True, type=click.Path(), help="That was exported.")
@click.option("-o", "--output", required=True, type=click.Path(), help="File of answers, appended to.")
@_RUBRIC
def import_answers(export_path: str, sample_path: str, output: str, rubric: str | None) -> None:
    """Read a Label Studio export (JSON or JSON-MIN) into answers; importing again adds what is new."""
    from relgrade.audit.annotations import AnnotationLog
    from relgrade.audit.cases import read_cases
    from relgrade.audit.guideline import guideline_for
    from relgrade.audit.label_studio import read_export

    cases = read_cases(Path(sample_path))
    guideline = guideline_for(rubric or cases[0].rubric, text="As in Label Studio.")
    n_new = 0
    answers = read_export(Path(export_path), cases, guideline)
    with AnnotationLog(jsonl_path(output)) as log:
        for each in answers:
            done, name = log.desk(each.annotator).done, each.case.case
            before = done.get(name)
            if name in done and (None if before is None else before.answer) == each.answer:
                continue
            action = "skip" if each.answer is None else "answer"
            log.append(
                each.annotator,
                "answer" if action == "answer" else "skip",
                case=each.case,
                answer=each.answer,
                scale=guideline.scale,
                seconds=each.seconds,
            )
            n_new += 1
    outcome.warn(f"{n_new:,} of {len(answers):,} answers were new and are in {output}")


def _open_browser(url: str) -> None:
    """Open a browser with a window of its own; one that takes the terminal would keep the page from being served."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(url)


@click.group()
def audit() -> None:
    """Hold a teacher's labels against people.

    Draw a sample, judge it in the browser, read the report, send doubtful labels back, merge corrections.
    """


for _each in (sample, serve, export, import_answers, report, relabel, apply):
    audit.add_command(_each)
