"""Rows of configuration B: a head on a frozen backbone, whose features rows share."""

import time
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from relgrade.paper import frozen
from relgrade.paper.frozen_head import FrozenHead, fit_head, put_head, train_head
from relgrade.paper.job import Job, Outcome, outcome_of
from relgrade.paper.samples import pair_key
from relgrade.paper.scoring import reading_device, reading_precision
from relgrade.records import Pair
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.losses import build_loss


def frozen_row(job: Job) -> Outcome:
    """Fit the head, and score with it."""
    wanted = replace(job.settings.student, train_encoder=False)
    built: list[CrossEncoderStudent] = []

    def student() -> CrossEncoderStudent:
        if not built:
            built.append(CrossEncoderStudent.build(wanted, seed=job.settings.seed).to(reading_device()))
        return built[0]

    started_s, started_cpu_s = time.monotonic(), time.process_time()
    store = frozen.FeatureStore(frozen.store_folder(job.shared / "features", wanted, job.settings))
    pairs, judged = job.drawn.pairs, job.samples.judged()

    def read(piece: Sequence[Pair]) -> dict[str, frozen.Matrix]:
        with reading_precision(job.settings, student()):
            return frozen.read_features(student(), piece)

    found = store.read([*pairs, *judged], read, on_piece=lambda done, n: job.on_piece("features", done, n))
    features = found[job.row.pooling]
    seconds_features, read_cpu_s = time.monotonic() - started_s, time.process_time()
    started_s = time.monotonic()
    layer = frozen.head_layer(student())
    head = _fitted_head(job, features[: len(pairs)], layer)
    logits = head.logits(features[len(pairs) :])
    seconds_training, fitted_cpu_s = time.monotonic() - started_s, time.process_time()
    model = student()
    if job.row.pooling == "model":
        put_head(model, head)
        model.to("cpu").save(job.folder / "student")
    return outcome_of(
        job,
        logits=dict(zip(map(pair_key, judged), logits.tolist(), strict=True)),
        n_parameters=sum(parameter.numel() for parameter in model.parameters()),
        n_parameters_trained=sum(parameter.numel() for parameter in layer.parameters()),
        seconds_training=seconds_training,
        seconds_scoring=seconds_features,  # of the first row that reads them; later ones find them
        details={
            "pooling": job.row.pooling,
            "fit": "to the end" if job.row.learning_rate is None else "AdamW",
            "cpu_seconds_training": round(fitted_cpu_s - read_cpu_s, 1),
            "cpu_seconds_scoring": round(read_cpu_s - started_cpu_s, 1),
        },
    )


def _fitted_head(job: Job, features: frozen.Matrix, layer: nn.Linear) -> FrozenHead:
    row, pairs, training = job.row, job.drawn.pairs, job.training
    loss = build_loss(training, positive_weight=job.positive_weight)
    labels = [float(pair.label or 0.0) for pair in pairs]
    query_ids = [pair.query_id for pair in pairs]
    if row.learning_rate is None:
        return fit_head(features, labels, loss, query_ids=query_ids, has_bias=layer.bias is not None)
    return train_head(
        features,
        labels,
        loss,
        query_ids=query_ids,
        layer=layer,
        training=training,
        learning_rate=row.head_learning_rate or row.learning_rate,
        seed=job.seed,
    )
