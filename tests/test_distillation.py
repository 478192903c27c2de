"""A smaller encoder learns to imitate a larger one; a run that was killed ends as one that was not."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402
from hypothesis import given, strategies  # noqa: E402

from conftest import WORDS  # noqa: E402
from relgrade.cli import main  # noqa: E402
from relgrade.errors import InvalidInput, InvalidSettings, OutputError, TrainingError  # noqa: E402
from relgrade.settings import StudentSettings  # noqa: E402
from relgrade.student import distillation  # noqa: E402
from relgrade.student.build import build_student  # noqa: E402
from relgrade.student.distillation import CHECKPOINT_NAME, JOURNAL_NAME, distil, learning_rate  # noqa: E402
from relgrade.student.distillation_settings import DistillationSettings  # noqa: E402
from relgrade.student.original_states import OriginalStates, batches_of, pad_windows  # noqa: E402
from relgrade.student.smaller_encoder import build_smaller  # noqa: E402
from relgrade.student.text_backbone import load_text_backbone  # noqa: E402

SETTINGS = DistillationSettings(
    recipe="small.toml", layers=(0,), max_tokens=16, epochs=6, batch_tokens=160, checkpoint_steps=5, held_out=0.1
)
UPPER = replace(SETTINGS, layers=(1,))
LOWER = replace(SETTINGS, layers=(0,))


class Stopped(Exception):
    """Stands for a kill between two steps."""


@pytest.fixture(scope="module")
def original(tiny_bert_folder):
    settings = StudentSettings(architecture="interaction", base=str(tiny_bert_folder), max_tokens=16)
    encoder = load_text_backbone(settings).encoder.eval()
    with torch.no_grad():  # fresh layers of BERT pass on what they get; these add something of their own
        for layer in encoder.encoder.layer:
            for weight in layer.parameters():
                if weight.ndim == 2:
                    weight.mul_(15)
    return encoder


@pytest.fixture(scope="module")
def windows():
    random = np.random.default_rng(0)
    return [(2, *random.integers(7, 55, random.integers(3, 13)).tolist(), 3) for _ in range(160)]


def weights(encoder):
    return torch.cat([weight.detach().flatten() for weight in encoder.parameters()])


@given(strategies.lists(strategies.lists(strategies.integers(1, 9), min_size=1, max_size=7).map(tuple), max_size=30))
def test_batches_hold_every_window_once_and_bound_their_tokens(windows):
    batches = batches_of(windows, batch_tokens=12)
    assert sorted(window for batch in batches for window in batch) == sorted(set(windows))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= 12
    assert [len(w) for batch in batches for w in batch] == sorted(len(w) for w in set(windows))


def test_states_are_computed_once_and_belong_to_one_encoder(tmp_path):
    calls = []

    def encode(ids, mask):
        calls.append(ids)
        return ids[:, :, None].float() / 8

    batch = ((1, 2, 3), (4, 5))
    store = OriginalStates(tmp_path, encode, fingerprint="a")
    first = store.of(batch)
    assert first[:, 0].tolist() == [each / 8 for each in (1, 2, 3, 4, 5)]  # no padding between
    assert torch.equal(OriginalStates(tmp_path, encode, fingerprint="a").of(batch), first)
    assert len(calls) == 1
    OriginalStates(tmp_path, encode, fingerprint="b").of(batch)
    assert len(calls) == 2
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b"torn", "fewer", "floats"])
def test_a_damaged_file_of_states_is_computed_again(content, tmp_path):
    def encode(ids, mask):
        return ids[:, :, None].float() / 8

    first = OriginalStates(tmp_path, encode, fingerprint="a").of(((1, 2, 3), (4, 5)))
    (path,) = tmp_path.iterdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, first.numpy()[:2] if content == "fewer" else first.numpy().astype(np.float32))
    assert torch.equal(OriginalStates(tmp_path, encode, fingerprint="a").of(((1, 2, 3), (4, 5))), first)
    assert len(np.load(path)) == 5


def test_a_folder_that_cannot_be_made_says_so(original, windows, tmp_path):
    (tmp_path / "file").write_text("")
    for wrong in ({"output": tmp_path / "file"}, {"output": tmp_path / "o", "states_folder": tmp_path / "file"}):
        with pytest.raises(OutputError, match="file"):
            distil(original, windows, SETTINGS, **wrong)


def read(encoder, ids, mask):
    with torch.no_grad():
        return encoder(input_ids=ids, attention_mask=mask).last_hidden_state[mask == 1]


def near(found, aim):
    return float(torch.cosine_similarity(found, aim, dim=1).mean())


def test_all_layers_kept_are_the_original(original, windows):
    inputs = pad_windows(windows[:20])
    same = build_smaller(original, (0, 1), [inputs])
    assert torch.allclose(read(same, *inputs), read(original, *inputs), atol=1e-6)
    assert near(read(build_smaller(original, (0,), [inputs]), *inputs), read(original, *inputs)) < 0.95


def test_what_enters_the_first_kept_layer_is_guessed(original, windows):
    """The guess is made of other windows than it is held against, and beats the embeddings that were there."""
    inputs, others = pad_windows(windows[:40]), [pad_windows(windows[40:])]
    guessed = build_smaller(original, (1,), others)
    plain = build_smaller(original, (1,), others)
    plain.embeddings.load_state_dict(original.embeddings.state_dict())
    aim = read(original, *inputs)
    assert near(read(guessed, *inputs), aim) > near(read(plain, *inputs), aim) + 0.05


def test_where_all_depends_on_the_piece_the_guess_is_exact(original, windows):
    """A lower layer that adds nothing to a piece but what the piece alone decides is replaced without loss."""
    alone = copy.deepcopy(original)
    with torch.no_grad():
        alone.embeddings.position_embeddings.weight.zero_()
        alone.encoder.layer[0].attention.output.dense.weight.zero_()
    inputs = pad_windows(windows)
    guessed = build_smaller(alone, (1,), [inputs] * 30)
    assert near(read(guessed, *inputs), read(alone, *inputs)) > 0.999


@pytest.mark.parametrize(("settings", "gain"), [(LOWER, 0.02), (UPPER, 0.002)], ids=["lower layer", "upper layer"])
def test_training_brings_it_nearer(original, windows, settings, gain, tmp_path):
    before = weights(original).clone()
    steps = []
    report = distil(original, windows, settings, output=tmp_path, on_step=steps.append)
    assert report.after[0] > report.before[0] + gain
    assert report.after[1] > report.before[1]
    assert report.n_windows == len(set(windows))
    assert report.n_tokens == sum(map(len, set(windows)))
    assert sum(step.n_more for step in steps) == report.steps
    assert [step.step for step in steps] == list(range(1, report.steps + 1))
    rows = [json.loads(line) for line in (tmp_path / JOURNAL_NAME).read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, *range(5, report.steps, 5), report.steps]
    assert torch.equal(weights(original), before)
    assert not report.encoder.training


@pytest.mark.parametrize("stop_at", [7, 10])
def test_a_killed_run_ends_as_one_that_was_not(original, windows, stop_at, tmp_path):
    whole = distil(original, windows, SETTINGS, output=tmp_path / "whole")

    def stop(step):
        if step.step == stop_at:
            raise Stopped

    with pytest.raises(Stopped):
        distil(original, windows, SETTINGS, output=tmp_path / "killed", on_step=stop)
    continued = distil(original, windows, SETTINGS, output=tmp_path / "killed")
    assert torch.equal(weights(continued.encoder), weights(whole.encoder))
    assert continued.after == whole.after
    names = [json.loads(line)["step"] for line in (tmp_path / "killed" / JOURNAL_NAME).read_text().splitlines()]
    assert names == sorted(set(names))
    again = distil(original, windows, SETTINGS, output=tmp_path / "killed", on_step=pytest.fail)
    assert torch.equal(weights(again.encoder), weights(whole.encoder))


def test_a_folder_of_another_run_is_refused(original, windows, tmp_path):
    distil(original, windows, SETTINGS, output=tmp_path)
    with pytest.raises(TrainingError, match="belongs to a run with another original"):
        distil(original, windows, replace(SETTINGS, learning_rate=1e-3), output=tmp_path)
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"torn")
    with pytest.raises(TrainingError, match="is damaged"):
        distil(original, windows, SETTINGS, output=tmp_path)


def test_rows_of_another_run_are_not_taken_for_those_of_this_one(original, windows, tmp_path):
    distil(original, windows, SETTINGS, output=tmp_path / "both")
    (tmp_path / "both" / CHECKPOINT_NAME).unlink()
    found = distil(original, windows, UPPER, output=tmp_path / "both")
    alone = distil(original, windows, UPPER, output=tmp_path / "alone")
    assert (found.before, found.after) == (alone.before, alone.after)
    assert torch.equal(weights(found.encoder), weights(alone.encoder))


def test_a_run_killed_between_row_and_checkpoint_reports_its_last_measurement(original, windows, tmp_path, monkeypatch):
    settings = replace(SETTINGS, checkpoint_steps=1000)  # the last step alone
    whole = distil(original, windows, settings, output=tmp_path / "whole")
    monkeypatch.setattr(distillation._Run, "_save", lambda _: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        distil(original, windows, settings, output=tmp_path / "killed")
    monkeypatch.undo()
    assert distil(original, windows, settings, output=tmp_path / "killed").after == whole.after
    lines = (tmp_path / "killed" / JOURNAL_NAME).read_text().splitlines()
    assert len(lines) == 2


def test_what_cannot_be_distilled_says_so(original, windows, tmp_path, tiny_llama_folder):
    with pytest.raises(InvalidInput, match="two batches"):
        distil(original, windows[:1], SETTINGS, output=tmp_path)
    with pytest.raises(TrainingError, match="layers 0 to 1"):
        distil(original, windows, replace(SETTINGS, layers=(0, 5)), output=tmp_path / "a")
    decoder = load_text_backbone(
        StudentSettings(architecture="interaction", base=str(tiny_llama_folder), max_tokens=16)
    )
    with pytest.raises(TrainingError, match="of type bert"):
        distil(decoder.encoder, windows, SETTINGS, output=tmp_path / "c")


@pytest.mark.parametrize(
    "changes",
    [
        *({"layers": ()}, {"layers": (-1,)}, {"layers": (2, 1)}, {"epochs": 0.0}, {"epochs": np.inf}, {"floor": 1.0}),
        *({"seed": -1}, {"weight_decay": -1.0}, {"max_gradient_norm": -1.0}, {"max_gradient_norm": np.nan}),
        *({"vector_weight": np.nan}, {"max_tokens": 0}),
    ],
)
def test_settings_out_of_range(changes):
    with pytest.raises(InvalidSettings, match=f"{next(iter(changes))}"):
        DistillationSettings(recipe="small.toml", **changes)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(SETTINGS, step, 100) for step in range(101)]
    peak = int(np.argmax(rates))
    assert rates[peak] == SETTINGS.learning_rate
    assert peak in (4, 5)
    assert all(a > b for a, b in zip(rates[peak + 1 :], rates[peak + 2 :], strict=False))
    assert rates[100] == pytest.approx(SETTINGS.floor * SETTINGS.learning_rate)


CONFIG = """
recipe = "small.toml"
seed = 3
layers = [1]
max_tokens = 16
max_query_tokens = 8
epochs = 2
batch_tokens = 96
checkpoint_steps = 4
"""

RECIPE = """
[[sources]]
name = "fruit"
path = "fruit.jsonl"
split = "train"
"""


@pytest.fixture
def data_folder(tmp_path):
    random = np.random.default_rng(0)
    rows = []
    for number in range(60):
        query, document = (" ".join(random.choice(WORDS, n)) for n in (4, 20))
        split = "test" if number % 10 == 0 else "train"
        ids = {"query_id": str(number), "doc_id": str(number), "split": split}
        rows.append({**ids, "query": query, "document": document, "label": 0.0})
    (tmp_path / "fruit.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "small.toml").write_text(RECIPE, encoding="utf-8")
    (tmp_path / "encoder.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def run(folder, *options):
    arguments = ["distil", "--config", str(folder / "encoder.toml"), "-o", str(folder / "run"), *map(str, options)]
    return CliRunner().invoke(main, arguments)


def test_the_command_writes_an_encoder_that_a_student_takes(data_folder, tiny_bert_folder):
    result = run(data_folder, "--base", tiny_bert_folder, "--states", data_folder / "states")
    assert result.exit_code == 0, result.output
    # 54 training rows: a query and two windows of a document each, special tokens included
    assert f"162 windows {54 * (4 + 2) + 54 * (20 + 4)} tokens" in result.output.replace(",", "")
    assert list((data_folder / "states").glob("*.npy"))
    folder = data_folder / "run" / "encoder"
    settings = StudentSettings(architecture="interaction", base=str(folder), max_tokens=16, max_query_tokens=8)
    student = build_student(replace(settings, train_encoder=False), seed=0)
    assert len(student.encoder.encoder.layer) == 1
    original = load_text_backbone(replace(settings, base=str(tiny_bert_folder)))
    text = "red apple, green plums"
    assert student.tokenizer.encode(text).ids == original.tokenizer.encode(text).ids
    assert (student.template.prefix, student.template.suffix) == (original.prefix, original.suffix)


def test_the_command_goes_on_and_says_what_is_missing(data_folder, tiny_bert_folder):
    first = run(data_folder, "--base", tiny_bert_folder)
    assert run(data_folder, "--base", tiny_bert_folder).output == first.output
    other = run(data_folder, "--base", tiny_bert_folder, "--seed", 4)
    assert other.exit_code == 2
    assert "choose another output folder" in other.output
    (data_folder / "encoder.toml").write_text("seed = 1\n", encoding="utf-8")
    bare = run(data_folder)
    assert bare.exit_code == 2
    assert "recipe is missing" in bare.output
