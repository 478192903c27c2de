import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from relgrade.errors import InvalidSettings  # noqa: E402
from relgrade.records import Pair  # noqa: E402
from relgrade.settings import TrainingSettings  # noqa: E402
from relgrade.student.student import Student  # noqa: E402
from relgrade.student.training import fit  # noqa: E402
from relgrade.student.weights import source_weights  # noqa: E402


class Constant(Student):
    """One logit for everything: what it ends at is the weighted share of positives."""

    architecture = "constant"

    def __init__(self):
        super().__init__()
        self.logit = torch.nn.Parameter(torch.zeros(1))

    def count_tokens(self, pairs):
        return [1 for _ in pairs]

    def collate(self, pairs):
        return {"ones": torch.ones(len(pairs))}

    def forward(self, ones):
        return self.logit * ones

    def parameter_groups(self):
        return {"encoder": [], "head": [self.logit]}

    def save(self, folder):
        raise NotImplementedError

    @classmethod
    def load(cls, folder):
        raise NotImplementedError


def pairs():
    """48 negatives of a large source, 12 positives of a small one."""
    sides = [("large", 0.0)] * 48 + [("small", 1.0)] * 12
    return [
        Pair(query_id=f"q{i}", query="a", doc_id=f"d{i}", document="b", label=label, source=source)
        for i, (source, label) in enumerate(sides)
    ]


@pytest.mark.parametrize(("power", "large", "small"), [(0.0, 1.0, 1.0), (0.5, 5 / 6, 5 / 3), (1.0, 5 / 8, 5 / 2)])
def test_weights_of_a_large_and_a_small_source(power, large, small):
    weights = source_weights(pairs(), power)
    assert weights == pytest.approx([large] * 48 + [small] * 12)
    assert sum(weights) / len(weights) == pytest.approx(1.0)


def test_no_pairs_have_no_weights():
    assert source_weights([], 0.5) == []


@pytest.mark.parametrize(("power", "share"), [(0.0, 0.2), (1.0, 0.5)])
def test_training_minimises_the_weighted_loss(tmp_path, power, share):
    settings = TrainingSettings(
        epochs=200.0, batch_pairs=60, batch_tokens=60, learning_rate=0.1, weight_decay=0.0, patience=500,
        checkpoint_steps=1000, bf16="off", source_weight_power=power,
    )  # fmt: skip
    student = Constant()
    fit(student, pairs(), [], settings, output=tmp_path, seed=0)
    assert torch.sigmoid(student.logit).item() == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("power", [-0.1, 1.5])
def test_power_outside_its_range_is_refused(power):
    with pytest.raises(InvalidSettings, match="source_weight_power"):
        dataclasses.replace(TrainingSettings(), source_weight_power=power)
