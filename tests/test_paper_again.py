"""A row is run again where its base, its precision or its model is another one, and then nothing old is used."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from paper_case import settings_of, write_data
from relgrade.paper.samples import read_samples
from relgrade.paper.table import run_rows
from relgrade.student.cross_encoder import CrossEncoderStudent

ROWS = [{"name": "c", "method": "C"}, {"name": "b", "method": "B"}]


@pytest.fixture(scope="module")
def table(tmp_path_factory, tiny_bert_folder):
    return settings_of(write_data(tmp_path_factory.mktemp("data")), tiny_bert_folder, ROWS)


def test_another_base_in_the_folder_is_another_row(table, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(table.student.base, base)
    told = []

    def run():
        where = {"output": tmp_path / "run", "results": tmp_path / "results", "base_folder": base}
        run_rows(table, only=["c"], on_row=lambda name, state: told.append(state), **where)

    run()
    run()
    path = base / "model.safetensors"
    weights = load_file(path)
    save_file({name: weight + 0.01 for name, weight in weights.items()}, path, metadata={"format": "pt"})
    run()
    assert told == ["running", "done", "unchanged", "running", "done"]
    assert len(list((tmp_path / "run" / "rows").iterdir())) == 2


def test_a_model_trained_again_is_scored_again(table, tmp_path, monkeypatch):
    where = {"output": tmp_path, "results": tmp_path, "only": ["c"]}
    (path,) = run_rows(table, **where)
    path.unlink()
    n_scored = []
    plain = CrossEncoderStudent.score
    monkeypatch.setattr(
        CrossEncoderStudent,
        "score",
        lambda self, pairs, **options: (n_scored.append(len(pairs)), plain(self, pairs, **options))[1],
    )
    run_rows(table, **where)
    assert sum(n_scored) == len(read_samples(table).judged())


def test_a_model_that_is_not_trained_reads_on_the_gpu(table, tmp_path, monkeypatch):
    monkeypatch.setattr("relgrade.paper.frozen_row.reading_device", lambda: torch.device("meta"))
    with pytest.raises(RuntimeError, match="meta"):  # nothing can be read there; on the CPU it could
        run_rows(table, output=tmp_path, results=tmp_path, only=["b"])
