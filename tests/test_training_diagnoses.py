"""Trainings that went through and learned nothing, or read their padding, say so."""

import math
import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from relgrade.pipeline.fitting import fit_student  # noqa: E402
from relgrade.records import Pair  # noqa: E402
from relgrade.settings import StudentSettings, TrainingSettings  # noqa: E402
from relgrade.student import build_student, fit  # noqa: E402
from relgrade.student.diagnoses import diagnose_padding, diagnose_training  # noqa: E402
from relgrade.student.student import Student  # noqa: E402

LABELS = [1.0] * 10 + [0.0] * 30  # entropy 0.5623
FROZEN = StudentSettings(base="b", train_encoder=False)
WHOLE = StudentSettings(base="b")


def history(*losses):
    return [{"step": 10 * i, "loss": loss} for i, loss in enumerate(losses)] + [{"step": 60, "average_precision": 0.4}]


@pytest.mark.parametrize(
    ("losses", "options", "expected"),
    [
        ((0.7, 0.6, 0.57, 0.56, 0.562), {"student": FROZEN}, "set student.train_encoder"),
        ((0.7, 0.6, 0.57, 0.56, 0.562), {"student": WHOLE}, "training.learning_rate is 0.0001"),
        ((0.7, 0.6, 0.57, 0.56, 0.562), {"student": WHOLE, "has_adapters": True}, "alpha at least the rank"),
        ((0.7, 0.6, 0.5, 0.4, 0.3), {"student": FROZEN}, None),
        ((0.7, 0.56), {"student": FROZEN}, None),  # too short to tell
        ((0.8, 0.8, 0.8, 0.8, 0.8), {"student": WHOLE, "positive_weight": 3.0}, None),  # 1.040 is what is to be beaten
        ((1.04, 1.04, 1.04, 1.04, 1.04), {"student": WHOLE, "positive_weight": 3.0}, "nothing learned"),
        ((0.65, 0.64, 0.61, 0.57, 0.57), {"student": WHOLE, "label_smoothing": 0.2}, None),  # to be beaten: 0.611
        ((0.65, 0.61, 0.61, 0.61, 0.61), {"student": WHOLE, "label_smoothing": 0.2}, "nothing learned"),
    ],
)
def test_a_loss_that_ends_at_the_base_rate(losses, options, expected):
    smoothing = options.get("label_smoothing", 0.0)
    options = {name: value for name, value in options.items() if name != "label_smoothing"}
    training = TrainingSettings(learning_rate=1e-4, label_smoothing=smoothing)
    found = list(diagnose_training(history(*losses), LABELS, training=training, **options))
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("little or nothing learned: the loss ends at")
        assert expected in found[0]


@pytest.mark.parametrize(("rate", "advice"), [(2e-5, "want a higher rate"), (1e-3, "more steps, or a lower rate")])
def test_advice_for_adapters_depends_on_their_rate(rate, advice):
    training = TrainingSettings(learning_rate=rate)
    losses = history(0.7, 0.6, 0.57, 0.56, 0.562)
    (found,) = diagnose_training(losses, LABELS, student=WHOLE, training=training, has_adapters=True)
    assert advice in found
    assert f"training.learning_rate is {rate:g}" in found


def test_other_losses_have_no_such_reference():
    contrastive = TrainingSettings(loss="contrastive")
    assert list(diagnose_training(history(9, 9, 9, 9, 9), LABELS, student=WHOLE, training=contrastive)) == []


N_PAIRS, STEP_PAIRS, ROW_STEPS = 3000, 16, 10


def simulated(seed, share, *, has_constants=True):
    """The journal of a model whose loss is `share` of the base rate's, and its labels, one in five relevant.

    It gives each pair a probability, drawn from a beta distribution, that is the pair's own chance to be relevant.
    """
    generator = np.random.default_rng(seed)
    if share == 1.0:
        labels = generator.permutation(np.arange(N_PAIRS) < N_PAIRS // 5)
        answers = np.full(N_PAIRS, labels.mean())
    else:
        concentration = {0.95: 19.07, 0.8: 4.014}[share]  # solved for numerically
        answers = generator.beta(0.2 * concentration, 0.8 * concentration, N_PAIRS).clip(1e-9, 1 - 1e-9)
        labels = generator.random(N_PAIRS) < answers
    rows = []
    for start in range(0, N_PAIRS, STEP_PAIRS * ROW_STEPS):
        part = slice(start, start + STEP_PAIRS * ROW_STEPS)
        means = {
            "loss": cross_entropy(labels[part], answers[part]),
            "constant_loss": cross_entropy(labels[part], np.full_like(answers[part], labels.mean())),
        }
        rows.append(
            {"step": start // STEP_PAIRS, **{name: means[name] for name in means if has_constants or name == "loss"}}
        )
    return rows, labels.astype(float).tolist()


def cross_entropy(labels, answers):
    return float(-np.log(np.where(labels, answers, 1.0 - answers)).mean())


def n_told(share, **options):
    """Of 200 trainings of 188 steps."""
    told = 0
    for seed in range(200):
        rows, labels = simulated(seed, share, **options)
        told += bool(list(diagnose_training(rows, labels, student=WHOLE, training=TrainingSettings())))
    return told


def test_the_base_rate_is_told_and_a_little_learning_is_not():
    losses = [row["loss"] for seed in range(50) for row in simulated(seed, 0.95)[0]]
    assert np.mean(losses) == pytest.approx(0.95 * cross_entropy(np.arange(5) < 1, np.full(5, 0.2)), rel=0.01)
    assert n_told(1.0) == 200
    assert n_told(0.95) <= 10


def test_a_journal_without_the_loss_of_a_constant_tells_in_doubt():
    assert n_told(1.0, has_constants=False) >= 190
    assert n_told(0.8, has_constants=False) <= 10


@pytest.mark.parametrize("loss", ["binary-cross-entropy", "focal"])
def test_the_journal_holds_the_loss_of_a_constant_on_the_same_pairs(tiny_bert_folder, tmp_path, loss):
    """A student that can say one thing alone, and begins with the best of it."""
    draw = random.Random(0)
    texts = ["dog " * draw.randint(1, 9) for _ in range(61)]
    pairs = [
        Pair(
            query_id=f"q{i}", query="red", doc_id="d", document=text, label=draw.random(), source="b" if i > 8 else "a"
        )
        for i, text in enumerate(texts)
    ]
    student = build_student(StudentSettings(base=str(tiny_bert_folder), max_tokens=32, max_query_tokens=8), seed=0)
    training = TrainingSettings(
        loss=loss,
        learning_rate=1e-9,
        batch_pairs=8,
        batch_tokens=64,
        accumulation=2,
        checkpoint_steps=1,
        max_steps=6,
        label_smoothing=0.1,
        source_weight_power=0.5,
    )
    with torch.no_grad():
        student.backbone.classifier.weight.zero_()
        student.backbone.classifier.bias.fill_(best_constant(pairs, training, positive_weight=2.0))
    report = fit(student, pairs, [], training, output=tmp_path, seed=0, positive_weight=2.0)
    losses = [row["loss"] for row in report.history]
    assert len({round(loss, 3) for loss in losses}) > 3
    if loss == "focal":
        assert not any("constant_loss" in row for row in report.history)
    else:
        assert [row["constant_loss"] for row in report.history] == pytest.approx(losses, rel=1e-5)


def best_constant(pairs, training, *, positive_weight):
    n = {source: sum(pair.source == source for pair in pairs) for source in "ab"}
    weights = [n[pair.source] ** -training.source_weight_power for pair in pairs]
    smoothed = [pair.label * (1 - training.label_smoothing) + training.label_smoothing / 2 for pair in pairs]
    relevant = positive_weight * sum(w * y for w, y in zip(weights, smoothed, strict=True))
    return math.log(relevant / sum(w * (1 - y) for w, y in zip(weights, smoothed, strict=True)))


class Pooling(Student):
    """Sums a number per word, at the last position that is real, or at the last there is."""

    def __init__(self, reads_padding):
        super().__init__()
        self.reads_padding = reads_padding
        self.weight = torch.nn.Parameter(torch.ones(1))

    def count_tokens(self, pairs):
        return [len(pair.document.split()) for pair in pairs]

    def collate(self, pairs):
        rows = [[float(len(word)) for word in pair.document.split()] for pair in pairs]
        width = max(map(len, rows))
        mask = torch.tensor([[1.0] * len(row) + [0.0] * (width - len(row)) for row in rows])
        return {"numbers": torch.tensor([row + [0.0] * (width - len(row)) for row in rows]), "mask": mask}

    def forward(self, **inputs):
        last = inputs["mask"].sum(1).long() - 1
        if self.reads_padding:
            last = torch.full_like(last, inputs["mask"].shape[1] - 1)
        return inputs["numbers"].gather(1, last[:, None])[:, 0] * self.weight

    def parameter_groups(self):
        return {"encoder": [], "head": [self.weight]}

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


def test_a_pooled_padding_token_is_noticed():
    pairs = [Pair(query_id="q", query="q", doc_id=f"d{i}", document="word " * (i + 1)) for i in range(40)]
    assert list(diagnose_padding(Pooling(False), pairs)) == []
    (found,) = diagnose_padding(Pooling(True), pairs)
    assert found.startswith("padding changes logits: query 'q'")
    assert "pad_token_id" in found


def test_the_step_warns_of_a_head_that_could_not_learn(tiny_bert_folder, tmp_path):
    """Labels drawn at random on a frozen backbone."""
    draw = random.Random(0)
    words = ["red", "green", "blue", "apple", "pear", "dog", "lake", "sand"]
    path = tmp_path / "train.jsonl"
    rows = [
        f'{{"query_id": "q{i}", "query": "{draw.choice(words)}", "doc_id": "d{i}", '
        f'"document": "{" ".join(draw.choices(words, k=5))}", "label": {i % 2}}}\n'
        for i in range(120)
    ]
    path.write_text("".join(rows), encoding="utf-8")
    lines = fit_student(
        path,
        None,
        tmp_path / "run",
        student=StudentSettings(base=str(tiny_bert_folder), train_encoder=False, max_tokens=32, max_query_tokens=8),
        training=TrainingSettings(learning_rate=1e-5, batch_pairs=8, epochs=6),
        seed=0,
        key="k",
    )
    (warning,) = [line for line in lines if line.startswith("! ")]
    assert "nothing learned" in warning
    assert "set student.train_encoder" in warning
