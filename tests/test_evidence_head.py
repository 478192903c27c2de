import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from relgrade.errors import InvalidSettings  # noqa: E402
from relgrade.settings import StudentSettings  # noqa: E402
from relgrade.student.evidence import DIRECTIONS, FALLING, NAMES, UNDIRECTED  # noqa: E402
from relgrade.student.evidence_head import CLIP, FREE_SHARE, EvidenceHead  # noqa: E402

N = len(NAMES)


def a_head(kind, *, seed=0, steps=120):
    """Trained on labels that say the opposite of the evidence, which only a free head can learn."""
    head = EvidenceHead(DIRECTIONS, 8, dropout=0.0, seed=seed, kind=kind)
    generator = torch.Generator().manual_seed(seed)
    measures = torch.randn(400, N, generator=generator)
    signs = torch.tensor([float(each) for each in DIRECTIONS])
    labels = ((measures * signs).sum(1) < 0).float()
    head.set_scale(measures)
    optimiser = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(measures), labels)
        loss.backward()
        optimiser.step()
    return head.eval(), loss.item()


HEAD, LOSS = a_head("monotone")


def test_every_name_of_a_direction_is_a_measure():
    assert set(NAMES) >= FALLING | UNDIRECTED
    assert not FALLING & UNDIRECTED
    assert len(DIRECTIONS) == N
    assert set(DIRECTIONS) == {-1, 0, 1}


@given(
    seed=st.integers(0, 1000),
    column=st.sampled_from([i for i, each in enumerate(DIRECTIONS) if each]),
    step=st.floats(0.0, 20.0),
)
def test_more_evidence_never_lowers_the_logit(seed, column, step):
    before = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (1, N)).astype(np.float32))
    after = before.clone()
    after[0, column] += step * DIRECTIONS[column]
    with torch.no_grad():
        assert HEAD(after).item() >= HEAD(before).item() - 1e-4


def test_labels_against_the_evidence_are_learned_by_a_free_head_alone():
    assert LOSS > 0.5
    assert a_head("free")[1] < 0.3


def test_a_measure_without_direction_may_act_both_ways():
    measures = torch.randn(400, N, generator=torch.Generator().manual_seed(1))
    column = NAMES.index("document_length")
    for sign in (1.0, -1.0):
        head = EvidenceHead(DIRECTIONS, 8, dropout=0.0, seed=0, kind="monotone")
        head.set_scale(measures)
        optimiser = torch.optim.Adam(head.parameters(), lr=0.03)
        for _ in range(150):
            optimiser.zero_grad()
            labels = (sign * measures[:, column] > 0).float()
            torch.nn.functional.binary_cross_entropy_with_logits(head(measures), labels).backward()
            optimiser.step()
        low, high = torch.zeros(1, N), torch.zeros(1, N)
        low[0, column], high[0, column] = -1.0, 1.0
        assert (head(high) - head(low)).item() * sign > 1.0


def test_what_is_far_outside_counts_as_its_edge():
    far, edge = torch.zeros(1, N), torch.zeros(1, N)
    column = DIRECTIONS.index(1)
    far[0, column] = 1e6
    edge[0, column] = (HEAD.mean + CLIP * HEAD.deviation)[column]
    assert HEAD(far).item() == pytest.approx(HEAD(edge).item(), abs=1e-4)


def test_the_same_seed_gives_the_same_weights():
    first, second, other = (EvidenceHead(DIRECTIONS, 8, dropout=0.0, seed=s, kind="monotone") for s in (4, 4, 5))
    assert torch.equal(first.network.first, second.network.first)
    assert not torch.equal(first.network.first, other.network.first)


def test_an_odd_width_cannot_be_halved():
    with pytest.raises(InvalidSettings, match=r"student\.hidden must be even"):
        StudentSettings(architecture="interaction", hidden=7)


def test_a_blend_is_mostly_monotone_and_trains_each_part_alone():
    head = EvidenceHead(DIRECTIONS, 8, dropout=0.0, seed=0, kind="blend")
    measures = torch.randn(64, N, generator=torch.Generator().manual_seed(2))
    monotone, free = head.network.monotone(measures), head.network.free(measures)
    head.eval()
    torch.testing.assert_close(head(measures), monotone * (1 - FREE_SHARE) + free * FREE_SHARE)
    head.train()
    judged = head(measures)
    by_monotone, by_free = (judged - monotone).abs() < 1e-6, (judged - free).abs() < 1e-6
    assert bool((by_monotone | by_free).all())
    assert 16 < int(by_free.sum()) < 48
