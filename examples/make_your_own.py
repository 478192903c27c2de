"""From queries and documents to a grader of your own, on the example corpus, without a network or a GPU.

    pip install 'relgrade[candidates,evaluate,label]'
    python examples/make_your_own.py [--output FOLDER] [--train [--base FOLDER]]       or: make story

candidates -> labels of a teacher -> audit -> corrected labels -> calibration -> evaluation on queries held out. Each
step is the command that you would type, and a file; killed and run again, the story goes on. Teacher and person are
scripts beside this file, the rest is real. docs/make_your_own.md says what stands in their place on your own data.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from scripted_person import Gold, answer_cases, judge_pairs, read_jsonl
from scripted_teacher import ScriptedTeacher
from story_ledger import Step, run_relgrade, run_steps
from story_table import read_rows, table_lines

import relgrade
from relgrade import RelgradeError
from relgrade.bundle import load_bundle
from relgrade.formats import read_pairs
from relgrade.grade.grader import DEFAULT_BUNDLE

HERE = Path(__file__).parent
DOCUMENTS = HERE / "corpus" / "documents.jsonl"
QUERIES = (HERE / "story_queries.jsonl", HERE / "queries.jsonl")
RECIPE = HERE / "story_recipe.toml"
SCRIPTS = ("make_your_own", "scripted_person", "scripted_teacher", "tiny_encoder")  # a change of these is another story
MODEL = "scripted-teacher"
N_SAMPLE, N_QUEUE = 100, 60  # pairs that the person judges: drawn at random, then the most doubtful


class Story:
    """The steps over one folder; the names of the files are the plot.

    Args:
        folder: of all files.
        top: documents per query.
        base: encoder to train on; None: the tiny random one.
        answer_s: seconds an answer of the teacher takes.
        say: takes a line.
    """

    def __init__(self, folder: Path, *, top: int, base: str | None, answer_s: float, say: Any) -> None:
        self.folder, self.say, self._base, self._answer_s = folder, say, base, answer_s
        self.run = partial(run_relgrade, say=say)
        self.queries = [row for path in QUERIES for row in read_jsonl(path)]
        self._mix = f"top={top - top // 2},mid={top // 2 - top // 5},random={top // 5}"
        self.pairs, self.test, self.labels, self.corrected = (
            folder / f"{name}.jsonl" for name in ("pairs", "test", "labels", "labels.corrected")
        )
        self.on_teacher, self.mine, self.trained = (folder / name for name in ("on-teacher", "mine", "trained"))
        self.page = folder / "report.html"

    def file(self, name: str) -> Path:
        """A file of the story."""
        return self.folder / name

    def steps(self, *, is_training: bool) -> list[Step]:
        """All steps, in order."""
        file = self.file
        journal = [file(f"labels.jsonl.journal{each}") for each in ("", "-wal", "-shm")]
        answers = (file("answers.jsonl"), file("corrections.jsonl"))
        found = [
            Step("candidates", self.find, (file("pairs.jsonl"),), (file("found.jsonl"), file("found.jsonl.vectors"))),
            Step("hold out", self.hold_out, (self.test,)),
            Step("label", self.label, (self.labels,), tuple(journal)),
            Step("audit", self.audit, (file("sample.jsonl"), file("sample.key.json"), answers[0], file("audit.json"))),
            Step("relabel", self.relabel, (file("queue.jsonl"), answers[1], self.corrected)),
            Step("calibrate", self.calibrate, (self.on_teacher, self.mine)),
        ]
        if is_training:
            tiny = file("tiny-encoder")
            found.append(Step("train", self.train, (self.trained,), (tiny,), {"base": self._base}))
        reports = tuple(self.evaluations(is_training=is_training).values())
        found.append(Step("evaluate", partial(self.evaluate, is_training=is_training), (*reports, self.page)))
        return found

    def graders(self, *, is_training: bool) -> dict[str, Path]:
        """Name -> bundle, in the order of the table."""
        found = {"shipped": DEFAULT_BUNDLE, "on-teacher": self.on_teacher, "mine": self.mine}
        return {**found, "trained": self.trained / "bundle"} if is_training else found

    def evaluations(self, *, is_training: bool) -> dict[str, Path]:
        """Name of a grader -> its evaluation."""
        return {name: self.file(f"evaluation-{name}.json") for name in self.graders(is_training=is_training)}

    def gold(self) -> Gold:
        """The judgements, and whose texts are whose."""
        return Gold.read(self.queries, read_pairs(self.pairs))

    def find(self) -> str:
        """Queries and corpus to pairs, divided by query."""
        file, texts = self.file, self.file("queries.jsonl")
        # Texts alone: the judgements must not travel along with the pairs.
        texts.write_text("".join(json.dumps({"id": q["id"], "query": q["query"]}) + "\n" for q in self.queries))
        found = ("--queries", texts, "--corpus", DOCUMENTS, "-o", file("found.jsonl"), "--mix", self._mix)
        self.run("candidates", *found)
        self.run(
            "pairs",
            "split",
            file("found.jsonl"),
            "-o",
            self.pairs,
            "--validation",
            0,
            "--calibration",
            0,
            "--test",
            0.4,
        )
        gold, pairs = self.gold(), list(read_pairs(self.pairs))
        n_relevant = sum(map(len, gold.relevant.values()))
        n_found = int(sum(map(gold.label, pairs)))
        return (
            f"{len(pairs)} pairs of {len(self.queries)} queries; {n_found} of the {n_relevant} answers are among them"
        )

    def hold_out(self) -> str:
        """The test queries are judged by the person, every pair, before any model has seen them."""
        judged = judge_pairs(self.gold(), read_pairs(self.pairs, split="test"), self.test)
        n_queries = len({pair.query_id for pair in judged})
        n_relevant = int(sum(pair.label or 0 for pair in judged))
        return f"the person judged all {len(judged)} pairs of {n_queries} test queries: {n_relevant} are relevant"

    def label(self) -> str:
        """The other queries are labelled by the teacher."""
        with ScriptedTeacher(self.gold(), answer_s=self._answer_s) as teacher:
            server = ("--teacher", teacher.url, "--model", MODEL, "--no-progress")
            self.run("label", "run", self.pairs, "-o", self.labels, "--split", "train", *server)
        pairs = list(read_pairs(self.labels))
        n_wrong = self.gold().count_wrong(pairs)
        return f"{len(pairs)} labels, {teacher.n_answered} asked for in this run; gold knows that {n_wrong} are wrong"

    def audit(self) -> str:
        """A blind sample, the person's answers, and what they say about all labels."""
        sample, answers = self.file("sample.jsonl"), self.file("answers.jsonl")
        self.run("audit", "sample", self.labels, "-n", N_SAMPLE, "-o", sample)
        n = answer_cases(self.gold(), sample, answers)
        found = self.run("audit", "report", self.labels, answers, "--json")
        self.file("audit.json").write_text(found, encoding="utf-8")
        teacher = json.loads(found)["teacher"]
        kappa, precision = (
            "{value:.2f} ({low:.2f} to {high:.2f})".format(**teacher[k]) for k in ("kappa", "precision")
        )
        return f"the person judged {n}: kappa of the teacher {kappa}, precision {precision}"

    def relabel(self) -> str:
        """The labels most likely wrong go back to the person; both sets of answers become labels."""
        queue, answers, corrections = (self.file(f"{name}.jsonl") for name in ("queue", "answers", "corrections"))
        self.run("audit", "relabel", self.labels, "--annotations", answers, "--embedded", "-n", N_QUEUE, "-o", queue)
        n = answer_cases(self.gold(), queue, corrections)
        self.run("audit", "apply", self.labels, answers, corrections, "-o", self.corrected)
        gold = self.gold()
        before, after = (gold.count_wrong(read_pairs(path)) for path in (self.labels, self.corrected))
        return f"the person judged {n} more, the most doubtful; wrong labels before {before}, now {after}"

    def calibrate(self) -> str:
        """The embedded grader gets thresholds of its own, once on the labels as they came, once on the corrected."""
        teacher, person = "a scripted teacher", "a scripted teacher, corrected by a scripted person"
        for labels, bundle, who in ((self.labels, self.on_teacher, teacher), (self.corrected, self.mine, person)):
            options = ("--apart-from", self.test, "--cut", 0.5, "--label-source", who, "--leave-out", "--overwrite")
            self.run("calibrate", "--pairs", labels, "-o", bundle, *options)
        manifests = [load_bundle(path).manifest for path in (DEFAULT_BUNDLE, self.on_teacher, self.mine)]
        shipped, on_teacher, mine = (each.point().threshold for each in manifests)
        missing = ", ".join(str(each["name"]) for each in manifests[-1].left_out_points) or "none"
        return (
            f"threshold {shipped:.3f} shipped, {on_teacher:.3f} on the teacher's labels, {mine:.3f} on corrected ones; "
            f"promises that so few queries cannot keep: {missing}"
        )

    def train(self) -> str:
        """A student of the corrected labels; on a random encoder the overlap of words is all it has."""
        from tiny_encoder import write_tiny_encoder

        base = self._base
        if base is None:
            folder = self.file("tiny-encoder")
            write_tiny_encoder(folder, [pair.document for pair in read_pairs(self.corrected)])
            base = str(folder)
        settings = ("--data-folder", self.folder, "--base", base, "-o", self.trained)
        self.run("train", "--config", RECIPE, *settings)
        name = "a tiny random encoder, which only knows shared words," if self._base is None else self._base
        return f"a student on {name} is in {self.trained / 'bundle'}"

    def evaluate(self, *, is_training: bool) -> str:
        """Every grader on the test queries, against the person's labels."""
        for name, bundle in self.graders(is_training=is_training).items():
            more: tuple[Any, ...] = ("--no-baselines",)
            if name == "mine":
                more = ("--calibration-pairs", self.corrected, "--cut", 0.5, "--html", self.page)
            report = self.evaluations(is_training=is_training)[name]
            self.run("evaluate", "--bundle", bundle, "--pairs", self.test, "--json", report, *more)
        return f"{self.page} is the page to read"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the story; returns the exit code."""
    options = _options(arguments)
    console = Console(highlight=False, emoji=False, markup=False, soft_wrap=True)
    story = Story(
        options.output, top=options.top, base=options.base, answer_s=options.answer_seconds, say=console.print
    )
    is_training = options.train or options.base is not None
    sources = [
        *QUERIES,
        DOCUMENTS,
        RECIPE,
        DEFAULT_BUNDLE / "bundle.json",
        *sorted(HERE.glob("s*_*.py")),
        Path(__file__),
    ]
    inputs = [path.read_bytes() for path in sources]
    inputs += [relgrade.__version__.encode(), str(options.top).encode()]
    try:
        run_steps(story.steps(is_training=is_training), options.output, inputs=inputs, say=console.print)
    except RelgradeError as error:
        print(f"make_your_own: {error}", file=sys.stderr)
        return 2
    for line in table_lines(read_rows(story.evaluations(is_training=is_training))):
        console.print(line)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/story"), metavar="FOLDER", help="of all files")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="documents per query")
    parser.add_argument("--train", action="store_true", help="train a student too; needs relgrade[train]")
    parser.add_argument("--base", metavar="FOLDER", help="encoder to train on, such as all-MiniLM-L6-v2; means --train")
    parser.add_argument(
        "--answer-seconds", type=float, default=0.0, metavar="S", help="the teacher takes for an answer"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
