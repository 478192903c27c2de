"""A recipe that runs in seconds: synthetic pairs, a tiny BERT, a few steps. `run_case` is a run to be killed."""

import json
import random
from pathlib import Path

from relgrade.settings import (
    BundleSettings,
    ExportSettings,
    Recipe,
    SourceSettings,
    SplitSettings,
    StudentSettings,
    TrainingSettings,
)

NAMES = "red green blue grey black white gold pink apple pear plum fig grape melon lemon peach cat dog cow horse"
WORDS = NAMES.split()


def write_pairs_file(path, *, n_queries=60, seed=0):
    """A document is relevant when it holds both words of the query."""
    draw = random.Random(seed)
    rows = []
    for number, query in enumerate(draw.sample([(a, b) for a in WORDS for b in WORDS if a < b], n_queries)):
        for position in range(4):
            words = draw.choices([word for word in WORDS if word not in query], k=draw.randint(3, 9))
            if position == 0:
                words[1:1] = query
            row = {"query_id": f"q{number}", "query": " ".join(query), "doc_id": f"{number}-{position}"}
            rows.append({**row, "document": " ".join(words), "label": int(position == 0)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_recipe(pairs, base, *, architecture="cross-encoder"):
    return Recipe(
        seed=3,
        sources=(SourceSettings(name="colours", path=str(pairs), licence="CC0-1.0"),),
        splits=SplitSettings(validation=0.2, calibration=0.4, test=0.1),
        student=StudentSettings(
            architecture=architecture,
            base=str(base),
            max_tokens=32,
            max_query_tokens=8,
            hidden=8,
            train_encoder=architecture == "cross-encoder",
        ),
        training=TrainingSettings(max_steps=12, batch_pairs=16, learning_rate=1e-3, checkpoint_steps=4),
        export=ExportSettings(max_verdict_flips=1.0),  # twelve steps leave all logits close together
        bundle=BundleSettings(name="colours", licence="CC0-1.0", n_golden=5),
    )


def file_bytes(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run_case(pairs, base, architecture, output, connection):
    """A whole run in a process of its own, which sends the name of each step when it is done."""
    import torch

    from relgrade.pipeline import run_recipe

    torch.set_num_threads(1)
    recipe = make_recipe(pairs, base, architecture=architecture)
    run_recipe(recipe, output=Path(output), on_step=lambda step: connection.send(step.name))
    connection.close()
