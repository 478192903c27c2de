"""A model in shards over two processes on the CPU; trained, killed, resumed: it learns what whole models learn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from relgrade.errors import TrainingError
from relgrade.settings import StudentSettings, TrainingSettings
from relgrade.student import build_student, fit
from test_training import TRAIN

SCRIPT = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import torch, torch.distributed
sys.path.insert(0, {tests!r})
from relgrade.settings import StudentSettings
from relgrade.student import fit, sharding
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.generative import GenerativeStudent
from relgrade.student.lora import add_adapters
from test_training import SETTINGS, TRAIN, VALIDATION

output, kill_at = Path({output!r}), int(sys.argv[1])
settings = StudentSettings(
    base={base!r}, max_tokens=64, max_query_tokens=8, template="pass-fail", n_labels=2, gradient_checkpointing=True
)
training = replace(SETTINGS, accumulation=2, batch_pairs=4, max_steps=8, checkpoint_steps=3)
shares, n_passes = [], 0
plain = sharding.ShardedTrainer.compute_loss

def watched(self, *arguments, **named):
    global n_passes
    n_passes += 1
    if n_passes == kill_at:
        os._exit(9)
    weights = list(self.model.parameters())
    shares.append(sum(w.to_local().numel() for w in weights) / sum(w.numel() for w in weights))
    return plain(self, *arguments, **named)

sharding.ShardedTrainer.compute_loss = watched

def make(kind):
    if kind == "words":
        return GenerativeStudent.build(settings, seed=0)
    student = CrossEncoderStudent.build(settings, seed=0)
    return add_adapters(student, rank=2, alpha=4.0, seed=0) if kind == "adapters" else student

found = {{}}
for kind in ("whole", "adapters", "words"):
    for is_sharded in (True, False):
        student, place = make(kind), output / f"{{kind}}-{{is_sharded}}"
        validation = [] if kind == "words" else VALIDATION[:7]  # an odd number for two processes
        report = fit(student, TRAIN, validation, replace(training, sharded=is_sharded), output=place, seed=0)
        found[place.name] = {{
            "steps": report.steps,
            "best": report.best_metric,
            "norms": [row["gradient_norm"] for row in report.history if "gradient_norm" in row],
            "scores": student.score(VALIDATION),
            "shares": [min(shares, default=0.5), max(shares, default=0.5)],
            "is_plain": not any(hasattr(weight, "to_local") for weight in student.parameters()),
        }}
        shares.clear()
(output / f"report-{{torch.distributed.get_rank()}}.json").write_text(json.dumps(found))
sys.stdout.flush()
os._exit(0)
"""


def run(script, kill_at):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, str(kill_at)], env=environment, capture_output=True, text=True, timeout=400, check=False
    )


@pytest.fixture(scope="module")
def reports(speaker_folder, tmp_path_factory):
    """What each process found; the sharded run of a whole model was killed in its fifth step and resumed."""
    folder = tmp_path_factory.mktemp("sharded")
    script = folder / "run.py"
    script.write_text(
        SCRIPT.format(tests=str(Path(__file__).parent), output=str(folder), base=str(speaker_folder)), encoding="utf-8"
    )
    killed = run(script, kill_at=9)
    assert killed.returncode != 0
    assert (folder / "whole-True" / "checkpoint-3" / "seal.json").exists()
    assert not (folder / "whole-True" / "checkpoint-6").exists()
    done = run(script, kill_at=-1)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"report-{rank}.json").read_text(encoding="utf-8")) for rank in (0, 1)]


@pytest.mark.parametrize("kind", ["whole", "adapters", "words"])
def test_shards_learn_what_whole_models_learn(reports, kind):
    first, second = (report[f"{kind}-True"] for report in reports)
    assert first == second
    expected = reports[0][f"{kind}-False"]
    assert first["steps"] == expected["steps"] == 8
    assert first["best"] == expected["best"]
    assert first["norms"] == pytest.approx(expected["norms"], rel=1e-4)
    assert first["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert first["is_plain"]


@pytest.mark.parametrize("kind", ["whole", "adapters", "words"])
def test_each_process_holds_its_share(reports, kind):
    assert reports[0][f"{kind}-True"]["shares"] == pytest.approx([0.5, 0.5], abs=0.05)


def test_one_process_has_nobody_to_share_with(tiny_bert_folder, tmp_path):
    student = build_student(StudentSettings(base=str(tiny_bert_folder), max_tokens=32, max_query_tokens=8), seed=0)
    with pytest.raises(TrainingError, match=r"there is one: start with torchrun --nproc-per-node N"):
        fit(student, TRAIN, [], TrainingSettings(sharded=True), output=tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()


def test_a_student_without_layers_to_cut_at_is_refused(tiny_bert_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings = StudentSettings(
        architecture="interaction", base=str(tiny_bert_folder), max_tokens=32, max_query_tokens=8
    )
    with pytest.raises(TrainingError, match="an interaction student"):
        fit(build_student(settings, seed=0), TRAIN, [], TrainingSettings(sharded=True), output=tmp_path / "run", seed=0)
    assert not (tmp_path / "run").exists()
