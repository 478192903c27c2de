"""The report against what was planted, its verdict, and the commands from the sample to the corrected labels."""

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from audit_case import labelled_pairs
from relgrade.audit.annotations import Annotation, AnnotationLog, read_annotations
from relgrade.audit.cases import draw_sample, read_cases, read_key
from relgrade.audit.clusters import Interval
from relgrade.audit.judged import join_answers
from relgrade.audit.ppi import CorrectedShare
from relgrade.audit.report import StudentVerdicts, audit_labels
from relgrade.audit.verdict import decide
from relgrade.cli import main
from relgrade.errors import InvalidInput
from relgrade.formats import read_pairs, write_pairs
from relgrade.records import Grade, Pair


def people_say(sample, pairs, *, annotators=("ann",), share_wrong=0.0, seed=0):
    generator = np.random.default_rng(seed)
    gold = {(pair.query_id, pair.doc_id): pair.fields["gold"] for pair in pairs}
    return [
        Annotation(
            name,
            int(gold[entry.query_id, entry.doc_id] ^ (generator.random() < share_wrong)),
            "binary",
            case=entry.case,
            sample=sample.key.sample,
        )
        for name in annotators
        for entry in sample.key.entries
    ]


@pytest.fixture(scope="module")
def audited():
    pairs = labelled_pairs(n_queries=120, n_documents=8, seed=1, share_wrong=0.2)
    sample = draw_sample(pairs, n=240, seed=0)
    return pairs, sample, people_say(sample, pairs)


def test_the_report_finds_what_was_planted(audited):
    pairs, sample, answers = audited
    report = audit_labels(pairs, answers, key=sample.key)
    verdict = np.asarray([pair.label >= 0.5 for pair in pairs])
    gold = np.asarray([pair.fields["gold"] for pair in pairs], dtype=bool)
    teacher = report.teacher
    assert teacher.people_base_rate.low <= gold.mean() <= teacher.people_base_rate.high
    assert teacher.precision.low <= gold[verdict].mean() <= teacher.precision.high
    assert teacher.recall.low <= verdict[gold].mean() <= teacher.recall.high
    assert teacher.teacher_base_rate == pytest.approx(verdict.mean())
    assert teacher.both + teacher.teacher_only + teacher.people_only + teacher.neither == pytest.approx(1.0)
    assert sum(teacher.counts) == 240
    assert report.prevalence.corrected.low <= gold.mean() <= report.prevalence.corrected.high
    assert (report.n_pairs, report.n_queries, report.n_judged, report.n_drawn) == (960, 120, 240, 240)
    assert report.annotators == (("ann", 240),)
    assert report.people is None
    assert report.suspects.errors_in_top_fifth > 0.4  # 0.2 by chance
    assert sum(each.n_pairs for each in report.bins) == 960
    assert sum(each.n_judged for each in report.bins) == 240


def test_a_census_is_the_plain_table(audited):
    from sklearn.metrics import cohen_kappa_score

    pairs = audited[0]
    answers = [Annotation("ann", p.fields["gold"], "binary", query_id=p.query_id, doc_id=p.doc_id) for p in pairs]
    report = audit_labels(pairs, answers)
    verdict, gold = [pair.label >= 0.5 for pair in pairs], [pair.fields["gold"] == 1 for pair in pairs]
    assert report.n_drawn is None
    assert report.teacher.kappa.value == pytest.approx(cohen_kappa_score(verdict, gold))
    assert report.prevalence.corrected.value == pytest.approx(np.mean(gold))


def test_people_are_held_against_each_other(audited):
    pairs, sample, _ = audited
    answers = people_say(sample, pairs, annotators=("ann", "bob", "cleo"), share_wrong=0.1)
    report = audit_labels(pairs, answers, key=sample.key)
    assert 0.4 < report.people.alpha.value < 0.8
    assert [(one, two) for one, two, _ in report.people.kappas] == [("ann", "bob"), ("ann", "cleo"), ("bob", "cleo")]
    assert report.people.n_pairs == 240
    assert report.teacher.n_ties == 0
    two = audit_labels(pairs, [each for each in answers if each.annotator != "cleo"], key=sample.key)
    assert two.teacher.n_ties > 0
    assert sum(two.teacher.counts) == 240


def test_a_student_is_measured_against_people(audited):
    pairs, sample, answers = audited
    gold = np.asarray([pair.fields["gold"] for pair in pairs])
    generator = np.random.default_rng(0)
    logits = 2.0 * gold - 1.0 + generator.normal(size=gold.size)
    report = audit_labels(pairs, answers, key=sample.key, student=StudentVerdicts(logits, logits >= 0.0, 0.5))
    kept, student = logits >= 0.0, report.student
    assert student.kept == pytest.approx(kept.mean())
    assert student.precision.corrected.low <= gold[kept].mean() <= student.precision.corrected.high
    assert student.recall.corrected.low <= kept[gold == 1].mean() <= student.recall.corrected.high
    # A teacher that is wrong on a fifth makes a good student look worse than it is.
    assert student.precision.teacher_alone < gold[kept].mean() - 0.05
    nothing = audit_labels(pairs, answers, key=sample.key, student=StudentVerdicts(logits, logits > 99, 1.0))
    assert nothing.student.precision is None


def test_grades_are_weighed_and_cut():
    generator = np.random.default_rng(0)
    grades = generator.integers(0, 4, 120)
    given = np.clip(grades + generator.integers(-1, 2, 120), 0, 3)
    pairs = [
        Pair(
            query_id=f"q{i % 30}",
            query=f"query {i % 30}",
            doc_id=f"d{i}",
            document=f"text {i}",
            label=float(given[i] >= 2),
            fields={"teacher_grade": float(given[i]), "grade": 0},
        )
        for i in range(120)
    ]
    answers = [
        Annotation("ann", int(grades[i]), "graded", query_id=pair.query_id, doc_id=pair.doc_id)
        for i, pair in enumerate(pairs)
    ]
    from sklearn.metrics import cohen_kappa_score

    report = audit_labels(pairs, answers)
    expected = cohen_kappa_score(given, grades, weights="quadratic")
    assert report.teacher.weighted_kappa.value == pytest.approx(expected)
    assert report.teacher.people_base_rate.value == pytest.approx((grades >= 2).mean())


def test_disagreement_of_teachers_is_told():
    pairs = [*labelled_pairs(n_queries=10, disagreement=0.0), *labelled_pairs(n_queries=20, disagreement=0.5)[60:]]
    answers = [Annotation("ann", 1, "binary", query_id="q0", doc_id="d0-0")]
    found = audit_labels(pairs, answers).self_consistency
    assert (found.n_pairs, found.unanimous, found.mean_disagreement) == (120, 0.5, 0.25)


def test_answers_that_do_not_belong_are_refused_or_set_aside(audited):
    pairs, sample, answers = audited
    with pytest.raises(InvalidInput, match="give its key"):
        audit_labels(pairs, answers)
    with pytest.raises(InvalidInput, match="other labelled pairs"):
        audit_labels(pairs[1:], answers, key=sample.key)
    other = draw_sample(pairs, n=10, seed=1)
    with pytest.raises(InvalidInput, match="the key is of sample"):
        audit_labels(pairs, answers, key=other.key)
    queued = Annotation("ann", 1, "binary", case="x", queue="y", query_id="q0", doc_id="d0-0")
    assert join_answers(pairs, [*answers, queued], key=sample.key).n_set_aside == 1
    with pytest.raises(InvalidInput, match="none of 1 answers"):
        audit_labels(pairs, [Annotation("ann", 1, "binary", query_id="?", doc_id="?")])
    binary = Annotation("ann", 1, "binary", query_id="q0", doc_id="d0-0")
    graded = replace(binary, scale="graded", doc_id="d0-1")
    with pytest.raises(InvalidInput, match="one scale"):
        audit_labels(pairs, [binary, graded])


def test_a_new_teacher_is_audited_with_the_same_answers(audited):
    pairs, sample, answers = audited
    relabelled = [replace(pair, label=float(pair.fields["gold"])) for pair in pairs]
    before, after = (audit_labels(each, answers, key=sample.key).teacher for each in (pairs, relabelled))
    assert after.kappa.value == pytest.approx(1.0)
    assert before.kappa.value < 0.8


def interval(value, half=0.05, n=200):
    return Interval(value, value - half, value + half, 100, n)


def share(value, half=0.03, teacher=None, n_misses=20):
    return CorrectedShare(
        interval(value, half), interval(value, half), value if teacher is None else teacher, 1.0, n_misses
    )


@pytest.mark.parametrize(
    ("kappa", "precision", "answers", "reason"),
    [
        (interval(0.75), share(0.8), ("yes", "yes"), "well beyond chance"),
        (interval(0.75), share(0.8, half=0.1), ("yes", "with care"), "judge more pairs"),
        (interval(0.75), share(0.8, n_misses=2), ("yes", "with care"), "only 2 misses"),
        (interval(0.75), share(0.8, teacher=0.9), ("yes", "no"), "which is off"),
        (interval(0.5), share(0.8), ("yes", "no"), "against the teacher, not against people"),
        (interval(0.3), share(0.8), ("with care", "no"), "relabel the most suspicious"),
        (interval(0.1), share(0.8), ("no", "no"), "hardly better than chance"),
        (interval(0.5, half=0.35), share(0.8), ("undecided", "no"), "more pairs would"),
        (Interval(None, None, None, 0, 0), share(0.8), ("undecided", "undecided"), "no interval"),
    ],
)
def test_the_verdict_in_words(kappa, precision, answers, reason):
    verdict = decide(
        kappa=kappa,
        teacher_base_rate=0.4,
        people_base_rate=interval(0.4),
        people_alpha=None,
        precision=precision,
        prevalence=share(0.4),
    )
    assert (verdict.can_train, verdict.can_set_point) == answers
    assert reason in " ".join(verdict.reasons)


def test_the_verdict_speaks_of_base_rates_and_of_people():
    verdict = decide(
        kappa=interval(0.75),
        teacher_base_rate=0.2,
        people_base_rate=interval(0.03, half=0.01),
        people_alpha=interval(0.3),
        precision=None,
        prevalence=share(0.03),
    )
    text = " ".join(verdict.reasons)
    for words in ("low by nature", "calls more relevant", "sharpen the rubric", "the share relevant is 0.030"):
        assert words in text


# --- the commands


def run(*arguments, code=0):
    result = CliRunner().invoke(main, ["audit", *map(str, arguments)], env={"COLUMNS": "100"})
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def folder(tmp_path, audited):
    write_pairs(tmp_path / "labels.jsonl", audited[0])
    run("sample", tmp_path / "labels.jsonl", "--n", 120, "-o", tmp_path / "sample.jsonl", "--seed", 3)
    key = read_key(tmp_path / "sample.key.json")
    gold = {(pair.query_id, pair.doc_id): pair.fields["gold"] for pair in audited[0]}
    with AnnotationLog(tmp_path / "answers.jsonl") as log:
        for case, entry in zip(read_cases(tmp_path / "sample.jsonl"), key.entries, strict=True):
            log.append("ann", "answer", case=case, answer=gold[entry.query_id, entry.doc_id], seconds=2.0)
    return tmp_path


def test_the_report_is_text_or_json(folder):
    text = run("report", folder / "labels.jsonl", folder / "answers.jsonl").stdout
    for words in (
        "Cohen's kappa",
        "teacher's precision",
        "share relevant",
        "Train a student on these labels: ",
        "Suspects",
    ):
        assert words in text
    report = json.loads(run("report", folder / "labels.jsonl", folder / "answers.jsonl", "--json").stdout)
    assert report["n_judged"] == 120
    assert f"{report['teacher']['kappa']['value']:.3f}" in text


def test_the_report_measures_a_student_from_its_scores(folder, audited):
    rows = [{"query_id": p.query_id, "doc_id": p.doc_id, "logit": 4.0 * p.fields["gold"] - 1.0} for p in audited[0]]
    (folder / "scores.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ("report", folder / "labels.jsonl", folder / "answers.jsonl", "--scores", folder / "scores.jsonl")
    report = json.loads(run(*arguments, "--json").stdout)
    assert report["student"]["precision"]["corrected"]["value"] == pytest.approx(1.0, abs=0.02)
    assert report["student"]["threshold"] == 0.5
    assert "a student that keeps" in run(*arguments, "--threshold", 0.9).stdout
    (folder / "scores.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert "959 of 960 labelled pairs have no score" in run(*arguments, code=2).stderr
    assert (
        "--scores"
        in run("report", folder / "labels.jsonl", folder / "answers.jsonl", "--threshold", 0.5, code=2).stderr
    )


def test_a_queue_is_judged_and_merged(folder):
    run(
        "relabel",
        folder / "labels.jsonl",
        "--annotations",
        folder / "answers.jsonl",
        "-n",
        50,
        "-o",
        folder / "q.jsonl",
    )
    queue = read_cases(folder / "q.jsonl")
    judged = {(e.query_id, e.doc_id) for e in read_key(folder / "sample.key.json").entries}
    assert len(queue) == 50
    assert not judged & {(case.query_id, case.doc_id) for case in queue}
    assert all(pair.label is None for pair in read_pairs(folder / "q.jsonl"))  # what a second teacher reads
    with AnnotationLog(folder / "more.jsonl") as log:
        for case in queue:
            log.append("bob", "answer", case=case, answer=1)
    arguments = ("apply", folder / "labels.jsonl", folder / "answers.jsonl", folder / "more.jsonl")
    run(*arguments, "-o", folder / "better.jsonl")
    before, after = (list(read_pairs(folder / name)) for name in ("labels.jsonl", "better.jsonl"))
    changed = [(one, two) for one, two in zip(before, after, strict=True) if one != two]
    assert len(changed) == 170
    for old, new in changed:
        assert new.label in (0.0, 1.0)
        assert new.fields["label_by"] in ("ann", "bob")
        assert new.fields["label_history"] == [{"label": old.label, "by": "teacher"}]
    again = ("apply", folder / "better.jsonl", *arguments[2:], "--key", folder / "sample.key.json")
    run(*again, "-o", folder / "same.jsonl")
    assert (folder / "same.jsonl").read_bytes() == (folder / "better.jsonl").read_bytes()
    report = json.loads(run("report", *arguments[1:], "--json").stdout)
    assert (report["n_judged"], report["n_set_aside"]) == (120, 50)
    own = run("report", folder / "better.jsonl", *arguments[2:], code=2)
    assert "120 of 120 judged pairs carry labels that these people gave" in own.stderr


def test_the_embedded_grader_scores_the_queue(folder, monkeypatch):
    class Knowing:
        """Grades as if it had read the truth."""

        def grade_pairs(self, pairs):
            gold = {pair.document: pair.fields["gold"] for pair in read_pairs(folder / "labels.jsonl")}
            for i, (_, document) in enumerate(pairs):
                yield Grade(i, 8.0 * gold[document] - 4.0, 0.5, True, "balanced", False, 1)

    monkeypatch.setattr("relgrade.grade.grader.Grader.load", Knowing)
    options = ("-n", 20, "-o", folder / "q.jsonl")
    assert "the student's logit" in run("relabel", folder / "labels.jsonl", "--embedded", *options).stderr
    found = {(pair.query_id, pair.doc_id): pair for pair in read_pairs(folder / "labels.jsonl")}
    queued = [found[case.query_id, case.doc_id] for case in read_cases(folder / "q.jsonl")]
    assert sum((pair.label >= 0.5) != pair.fields["gold"] for pair in queued) >= 15
    both = ("--embedded", "--scores", "x", *options)
    assert "takes no --scores" in run("relabel", folder / "labels.jsonl", *both, code=2).stderr


def test_a_second_teacher_corrects_too(folder):
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()[:3]]
    (folder / "second.jsonl").write_text(
        "".join(json.dumps({**row, "label": 0.25, "model": "judge-2", "disagreement": 0.1}) + "\n" for row in rows)
    )
    run("apply", folder / "labels.jsonl", folder / "second.jsonl", "--teacher", "-o", folder / "out.jsonl")
    found = list(read_pairs(folder / "out.jsonl"))[:4]
    assert [pair.fields.get("label_by") for pair in found] == ["judge-2"] * 3 + [None]
    assert found[0].label == 0.25


def test_label_studio_makes_the_round(folder):
    run("export", folder / "sample.jsonl", "-o", folder / "tasks.json")
    tasks = json.loads((folder / "tasks.json").read_text())
    assert len(tasks) == 120
    assert set(tasks[0]["data"]) == {"case", "query", "document"}
    interface = ElementTree.parse(folder / "tasks.xml")
    assert [each.get("value") for each in interface.iter("Choice")] == ["Relevant", "Not relevant"]
    for i, task in enumerate(tasks):
        choice = {
            "from_name": "relevance",
            "type": "choices",
            "value": {"choices": ["Relevant" if i % 2 else "Not relevant"]},
        }
        cancelled = {"completed_by": {"email": "b@c.d"}, "was_cancelled": True, "result": []}
        task["annotations"] = [
            {"completed_by": 7, "lead_time": 3.5, "result": [choice]},
            *([cancelled] if i == 0 else []),
        ]
    (folder / "export.json").write_text(json.dumps(tasks))
    arguments = ("import", folder / "export.json", "--sample", folder / "sample.jsonl", "-o", folder / "ls.jsonl")
    assert "121 of 121 answers were new" in run(*arguments).stderr
    assert "0 of 121 answers were new" in run(*arguments).stderr
    found = read_annotations(folder / "ls.jsonl")
    assert [each.answer for each in found] == [i % 2 for i in range(120)]
    assert {each.annotator for each in found} == {"7"}
    run("report", folder / "labels.jsonl", folder / "ls.jsonl")
    minimal = [{"id": 1, "case": tasks[0]["data"]["case"], "relevance": "Relevant", "annotator": 9}]
    (folder / "export.json").write_text(json.dumps(minimal))
    assert "1 of 1" in run(*arguments).stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "a list of tasks"),
        ("nope", "not a JSON export"),
        ('[{"data": {"case": "other"}}]', "about no case of this sample"),
    ],
)
def test_other_exports_are_refused(folder, content, message):
    (folder / "export.json").write_text(content)
    result = run(
        "import", folder / "export.json", "--sample", folder / "sample.jsonl", "-o", folder / "ls.jsonl", code=2
    )
    assert message in result.stderr


def test_what_is_missing_is_told_in_one_line(folder):
    (folder / "sample.key.json").unlink()
    assert "give its key" in run("report", folder / "labels.jsonl", folder / "answers.jsonl", code=2).stderr
    assert (
        "give the key"
        in run("apply", folder / "labels.jsonl", folder / "answers.jsonl", "-o", folder / "o.jsonl", code=2).stderr
    )
    assert ".jsonl was expected" in run("sample", folder / "labels.jsonl", "-o", folder / "s.json", code=2).stderr
    assert "can be drawn" in run("sample", folder / "labels.jsonl", "-n", 5000, "-o", folder / "s.jsonl", code=2).stderr
    assert (
        "no such file"
        in run("serve", folder / "absent.jsonl", "-o", folder / "a.jsonl", "--annotator", "x", code=2).stderr
    )
