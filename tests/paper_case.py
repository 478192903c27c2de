"""A table of the paper small enough for a test: eight-word documents, a model of sixteen dimensions, a few steps."""

import gzip
import json

import numpy as np

from conftest import WORDS
from relgrade.paper.job import Job
from relgrade.paper.samples import Samples, TrainingDraw
from relgrade.paper.settings import PaperSettings, RowSettings, TestSettings
from relgrade.settings import StudentSettings, TrainingSettings


def rows_of(n_queries, *, split, seed, n_documents=5, start=0):
    """A query names one word, which its relevant documents hold."""
    generator = np.random.default_rng(seed)
    rows = []
    for query in range(start, start + n_queries):
        word = WORDS[query % 30]
        for document in range(n_documents):
            is_relevant = document < 1 + query % 2
            words = [str(each) for each in generator.choice([w for w in WORDS[:30] if w != word], 7)]
            text = " ".join([*words, word] if is_relevant else words)
            rows.append(
                {
                    "query_id": f"q{query}",
                    "query": f"where is the {word} of {query}",
                    "doc_id": f"d{document}",
                    "document": text,
                    "label": int(is_relevant),
                    "split": split,
                }
            )
    return rows


def write_data(folder):
    """`pairs.jsonl.gz` with 24 training and 8 test queries."""
    rows = rows_of(24, split="train", seed=0) + rows_of(8, split="test", seed=1, start=100)
    with gzip.open(folder / "pairs.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return folder / "pairs.jsonl.gz"


def settings_of(data, base, rows, *, template="pair", **changes):
    """A table over `data`; each of `rows` is the keyword arguments of a row."""
    table = {
        "name": "tiny",
        "train": str(data),
        "tests": (TestSettings(name="test", path=str(data), base_rate=0.2),),
        "rows": tuple(RowSettings(**row) for row in rows),
        "pairs": 40,
        "calibration_pairs": 30,
        "n_draws": 20,
        "student": StudentSettings(
            base=str(base),
            template=template,
            max_tokens=64 if template == "pair" else 112,
            max_query_tokens=16,
            n_labels=2,
        ),
        "training": TrainingSettings(
            batch_pairs=8, batch_tokens=1024, learning_rate=1e-3, checkpoint_steps=2, max_steps=4, warmup=0.0
        ),
    }
    return PaperSettings(**{**table, **changes})


def job_of(table, name):
    """A row of the table as it is trained, without its pairs."""
    row = next(row for row in table.rows if row.name == name)
    samples = Samples([], [], {})
    drawn = TrainingDraw([], 0.0)
    return Job(
        row=row,
        settings=table,
        samples=samples,
        drawn=drawn,
        training=table.training,
        positive_weight=1.0,
        seed=0,
        folder=None,
        shared=None,
        on_piece=lambda what, done, total: None,
    )
