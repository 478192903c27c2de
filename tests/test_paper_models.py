"""Adapters, heads on frozen backbones, and models that answer in words: what is saved is what was trained."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from paper_case import rows_of, settings_of, write_data
from relgrade.errors import InvalidInput, InvalidSettings, TrainingError
from relgrade.paper import frozen
from relgrade.paper.frozen_head import fit_head, put_head, train_head
from relgrade.paper.results import read_results
from relgrade.paper.table import run_rows
from relgrade.records import Pair
from relgrade.settings import StudentSettings, TrainingSettings
from relgrade.student import fit, load_student
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.generative import ANSWERS, GenerativeStudent
from relgrade.student.lora import add_adapters
from relgrade.student.losses import build_loss

NAMES = ("query_id", "query", "doc_id", "document", "label", "split")


@pytest.fixture(scope="module")
def pairs():
    return [Pair(**{name: row[name] for name in NAMES}) for row in rows_of(8, split="train", seed=0)]


def student_of(folder, *, is_decoder=False, kind=CrossEncoderStudent, **changes):
    settings = StudentSettings(
        base=str(folder),
        n_labels=2,
        max_query_tokens=16,
        max_tokens=112 if is_decoder else 64,
        template="pass-fail" if is_decoder else "pair",
        **changes,
    )
    return kind.build(settings, seed=0)


@pytest.fixture(params=["bert", "llama"])
def base(request, tiny_bert_folder, tiny_llama_folder):
    return (tiny_llama_folder, True) if request.param == "llama" else (tiny_bert_folder, False)


# --- adapters


def test_adapters_begin_with_nothing_and_leave_the_rest_alone(base, pairs, tmp_path):
    plain = student_of(base[0], is_decoder=base[1])
    adapted = add_adapters(student_of(base[0], is_decoder=base[1]), rank=2, alpha=4.0, seed=0)
    assert adapted.score(pairs) == pytest.approx(plain.score(pairs), abs=1e-6)
    groups = adapted.parameter_groups()
    assert groups["encoder"]
    assert sum(weight.numel() for weight in groups["head"]) == sum(
        weight.numel() for name, weight in plain.backbone.named_parameters() if name.startswith(("classifier", "score"))
    )
    before = {name: weight.clone() for name, weight in adapted.backbone.named_parameters() if not weight.requires_grad}
    settings = TrainingSettings(max_steps=3, learning_rate=1e-2, batch_pairs=8, checkpoint_steps=3)
    fit(adapted, pairs, [], settings, output=tmp_path, seed=0)
    after = dict(adapted.backbone.named_parameters())
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_merged_adapters_saved_and_loaded_give_the_same_scores(base, pairs, tmp_path):
    adapted = add_adapters(student_of(base[0], is_decoder=base[1]), rank=2, alpha=4.0, seed=0)
    settings = TrainingSettings(
        max_steps=4, learning_rate=2e-2, head_learning_rate=5e-2, batch_pairs=8, checkpoint_steps=4
    )
    fit(adapted, pairs, [], settings, output=tmp_path / "fit", seed=0)
    expected = adapted.score(pairs)
    untrained = student_of(base[0], is_decoder=base[1]).score(pairs)
    assert np.abs(np.subtract(expected, untrained)).max() > 1e-2
    with pytest.raises(InvalidInput, match="saved merged"):
        adapted.save(tmp_path / "student")
    adapted.merged().save(tmp_path / "student")
    assert load_student(tmp_path / "student").score(pairs) == pytest.approx(expected, abs=1e-5)


def test_a_run_of_adapters_goes_on_from_its_checkpoint(tiny_bert_folder, pairs, tmp_path):
    settings = TrainingSettings(max_steps=4, learning_rate=1e-2, batch_pairs=8, checkpoint_steps=2)
    scores = []
    for _ in range(2):  # the second call finds the end and loads it
        adapted = add_adapters(student_of(tiny_bert_folder), rank=2, alpha=4.0, seed=0)
        fit(adapted, pairs, [], settings, output=tmp_path, seed=0)
        scores.append(adapted.score(pairs))
    assert scores[0] == scores[1]


# --- a head on a frozen backbone


def test_features_are_what_the_head_reads(base, pairs):
    student = student_of(base[0], is_decoder=base[1])
    features = frozen.read_features(student, pairs)
    layer = frozen.head_layer(student)
    logits = torch.nn.functional.linear(torch.from_numpy(features["model"]), layer.weight, layer.bias).detach()
    assert (logits[:, 1] - logits[:, 0]).tolist() == pytest.approx(student.score(pairs), abs=1e-5)
    assert features["mean"].shape == features["model"].shape == (len(pairs), 16)


def test_a_fitted_head_in_the_student_is_the_head(base, pairs, tmp_path):
    student = student_of(base[0], is_decoder=base[1])
    features = frozen.read_features(student, pairs)["model"]
    loss = build_loss(TrainingSettings(), positive_weight=1.0)
    has_bias = frozen.head_layer(student).bias is not None
    assert has_bias is not base[1]
    ids, labels = [pair.query_id for pair in pairs], [pair.label for pair in pairs]
    head = fit_head(features, labels, loss, query_ids=ids, has_bias=has_bias)
    put_head(student, head)
    student.save(tmp_path / "student")
    assert load_student(tmp_path / "student").score(pairs) == pytest.approx(head.logits(features).tolist(), abs=0.02)


def test_the_fitted_head_is_that_of_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(0)
    x = generator.normal(size=(80, 5)).astype(np.float32)
    y = (x[:, 0] + generator.normal(size=80) > 0.3).astype(float)
    head = fit_head(x, y.tolist(), build_loss(TrainingSettings(), positive_weight=1.0), query_ids=["q"] * 80)
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)
    expected = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(scaled, y).decision_function(scaled)
    assert head.logits(x) == pytest.approx(expected, abs=1e-3)


def test_a_store_reads_only_what_is_new(tiny_bert_folder, pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen, "PIECE", 8)
    student = student_of(tiny_bert_folder)

    def read(piece):
        return frozen.read_features(student, piece)

    first = frozen.FeatureStore(tmp_path).read(pairs[:20], read)
    seen = []
    again = frozen.FeatureStore(tmp_path).read(
        pairs[5:25], read, on_piece=lambda done, total: seen.append((done, total))
    )
    assert seen == [(5, 5)]
    assert np.array_equal(again["model"][:15], first["model"][5:])
    frozen.FeatureStore(tmp_path).read(pairs[:25], lambda piece: pytest.fail("nothing is missing"))


def test_features_of_another_kind_lie_elsewhere(tiny_bert_folder, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(tiny_bert_folder, base)
    settings = student_of(base).settings
    table = settings_of(tmp_path, base, [{"name": "b", "method": "B"}])
    place = frozen.store_folder(tmp_path, settings, table)
    assert frozen.store_folder(tmp_path, settings, replace(table, pairs=7)) == place
    assert frozen.store_folder(tmp_path, replace(settings, max_tokens=48), table) != place
    assert frozen.store_folder(tmp_path, settings, replace(table, reads_in_bf16=not table.reads_in_bf16)) != place
    assert frozen.store_folder(tmp_path, settings, replace(table, seed=table.seed + 1)) != place
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert frozen.store_folder(tmp_path, settings, table) != place


def test_a_recipe_moves_a_head_as_far_as_the_training_loop_does(tiny_bert_folder, pairs, tmp_path):
    student = student_of(tiny_bert_folder, train_encoder=False, dropout=0.0)
    training = TrainingSettings(learning_rate=1e-2, batch_pairs=8, epochs=2.0, warmup=0.2, checkpoint_steps=100)
    features = frozen.read_features(student, pairs)["model"]
    layer = frozen.head_layer(student)
    before = (layer.weight[1] - layer.weight[0]).detach().numpy().copy()
    head = train_head(
        features,
        [pair.label for pair in pairs],
        build_loss(training, positive_weight=1.0),
        query_ids=[pair.query_id for pair in pairs],
        layer=layer,
        training=training,
        learning_rate=1e-2,
        seed=0,
    )
    fit(student, pairs, [], training, output=tmp_path, seed=0)
    after = (layer.weight[1] - layer.weight[0]).detach().numpy()
    moved = np.linalg.norm(head.weight - before), np.linalg.norm(after - before)
    assert moved[0] == pytest.approx(moved[1], rel=0.15)
    assert np.dot(head.weight - before, after - before) > 0.9 * moved[0] * moved[1]


# --- models that answer in words


def generator_of(folder):
    return student_of(folder, is_decoder=True, kind=GenerativeStudent)


def test_the_logit_is_the_language_models_own(speaker_folder, pairs):
    student = generator_of(speaker_folder)
    with torch.no_grad():
        for pair in pairs[:3]:
            ids = student.collate([pair])["input_ids"]
            shares = student.backbone(ids).logits[0, -1].log_softmax(dim=0)
            reply = student.reply(pair)
            passes, fails = student._first_tokens()
            expected = (shares[passes] - shares[fails]).item()
            assert reply.logit == pytest.approx(expected, abs=1e-5)
            assert reply.logit == pytest.approx(student.score([pair])[0], abs=1e-5)
            assert reply.mass == pytest.approx(shares.exp()[[passes, fails]].sum().item(), rel=1e-4)
    assert student.score(pairs) == pytest.approx([student.score([pair])[0] for pair in pairs], abs=1e-5)


def test_the_loss_of_words_is_cross_entropy_over_the_vocabulary(speaker_folder, pairs):
    student = generator_of(speaker_folder)
    student.train()
    labels = torch.tensor([pair.label for pair in pairs])
    logits = student(**student.collate(pairs))
    loss = build_loss(TrainingSettings(), positive_weight=1.0)
    found = loss(logits, labels, torch.zeros(len(pairs), dtype=torch.int64), torch.ones(len(pairs)))
    found = found + student.auxiliary_loss()
    expected = []
    for pair in pairs:
        ids = student.collate([pair])["input_ids"]
        right, any_word = student._answers[0 if pair.label else 1], student._answers[int(ids.sum()) % 2]
        both = torch.cat([ids, torch.tensor([any_word[:1]])], dim=1)
        shares = student.backbone(both).logits[0].log_softmax(dim=1)
        expected.append(-shares[-2, right[0]] - shares[-1, any_word[1]])
    assert found.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)


def test_configuration_a_learns_to_say_one_word_and_to_stop(speaker_folder, pairs, tmp_path):
    student = generator_of(speaker_folder)
    assert not {student.reply(pair).text for pair in pairs} & set(ANSWERS)
    settings = TrainingSettings(max_steps=40, learning_rate=1e-2, batch_pairs=8, checkpoint_steps=40, warmup=0.0)
    fit(student, pairs, [], settings, output=tmp_path, seed=0)
    said = [student.reply(pair) for pair in pairs]
    assert min(each.mass for each in said) > 0.5
    assert [each.text for each in said] == [ANSWERS[0 if each.logit > 0 else 1] for each in said]
    assert min(ends_after(student, pairs)) > 0.5


def test_both_words_end_after_prompts_of_one_length(speaker_folder, pairs, tmp_path):
    student = generator_of(speaker_folder)
    cut = [replace(pair, document=" ".join([pair.document] * 60)) for pair in pairs]
    assert set(student.count_tokens(cut)) == {student.template.max_tokens}
    settings = TrainingSettings(max_steps=40, learning_rate=1e-2, batch_pairs=8, checkpoint_steps=40, warmup=0.0)
    fit(student, cut, [], settings, output=tmp_path, seed=0)
    assert min(ends_after(student, cut)) > 0.5


@torch.no_grad()
def ends_after(student, pairs):
    """For each pair and word, the probability that the reply ends after the word."""
    found = []
    for pair in pairs:
        ids = student.collate([pair])["input_ids"]
        for word, end in student._answers:
            shares = student.backbone(torch.cat([ids, torch.tensor([[word]])], dim=1)).logits[0, -1].softmax(dim=0)
            found.append(shares[end].item())
    return found


def test_a_vocabulary_without_the_words(tiny_llama_folder):
    with pytest.raises(InvalidSettings, match="begins PASS and FAIL with one token"):
        generator_of(tiny_llama_folder)


def test_words_need_the_prompt_that_asks_for_them(tiny_llama_folder):
    with pytest.raises(InvalidSettings, match="needs template 'pass-fail'"):
        student_of(tiny_llama_folder, kind=GenerativeStudent)


def test_stock_and_a_are_rows(speaker_folder, tmp_path):
    rows = [{"name": "stock", "method": "stock"}, {"name": "a", "method": "A"}]
    table = settings_of(write_data(tmp_path), speaker_folder, rows, template="pass-fail")
    stock, a = read_results(run_rows(table, output=tmp_path / "run", results=tmp_path / "results"))
    assert {reading["rule"] for reading in stock["readings"]} >= {"argmax", "unparsed as FAIL"}
    assert stock["cost"]["n_parameters_trained"] == 0
    assert {reading["rule"] for reading in a["readings"]} >= {"argmax", "unparsed as FAIL", "best F1 on calibration"}
    assert a["cost"]["n_parameters_trained"] == a["cost"]["n_parameters"]


def test_a_base_that_is_not_there_has_three_ways_out(tiny_bert_folder):
    settings = StudentSettings(
        base=str(tiny_bert_folder / "missing"), n_labels=2, template="pass-fail", max_tokens=112, max_query_tokens=16
    )
    with pytest.raises(TrainingError, match=r"accept its licence .* local folder .* another base"):
        GenerativeStudent.build(settings, seed=0)
