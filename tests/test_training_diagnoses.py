"""Trainings that went through and learned nothing, or read their padding, say so."""

import random

import pytest

torch = pytest.importorskip("torch")

from relgrade.pipeline.fitting import fit_student  # noqa: E402
from relgrade.records import Pair  # noqa: E402
from relgrade.settings import StudentSettings, TrainingSettings  # noqa: E402
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
    ],
)
def test_a_loss_that_ends_at_the_base_rate(losses, options, expected):
    found = list(diagnose_training(history(*losses), LABELS, training=TrainingSettings(learning_rate=1e-4), **options))
    if expected is None:
        assert found == []
    else:
        assert len(found) == 1
        assert found[0].startswith("nothing learned: the loss ends at")
        assert expected in found[0]


def test_other_losses_have_no_such_reference():
    contrastive = TrainingSettings(loss="contrastive")
    assert list(diagnose_training(history(9, 9, 9, 9, 9), LABELS, student=WHOLE, training=contrastive)) == []


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
