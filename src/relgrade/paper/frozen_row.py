"""Rows of configuration B: a head on a frozen backbone, whose features rows share."""

import time
from dataclasses import replace

from relgrade.errors import InvalidSettings
from relgrade.paper import frozen
from relgrade.paper.job import Job, Outcome, outcome_of
from relgrade.paper.samples import pair_key
from relgrade.paper.scoring import reading_precision
from relgrade.student.cross_encoder import CrossEncoderStudent
from relgrade.student.losses import build_loss


def frozen_row(job: Job) -> Outcome:
    """Fit the head, and score with it."""
    wanted = replace(job.settings.student, train_encoder=False)
    built: list[CrossEncoderStudent] = []

    def student() -> CrossEncoderStudent:
        if not built:
            built.append(CrossEncoderStudent.build(wanted, seed=job.settings.seed))
        return built[0]

    started_s, started_cpu_s = time.monotonic(), time.process_time()
    store = frozen.FeatureStore(frozen.store_folder(job.shared / "features", wanted))
    pairs, judged = job.drawn.pairs, job.samples.judged()
    with reading_precision(job.settings):
        found = store.read([*pairs, *judged], student, on_piece=lambda done, n: job.on_piece("features", done, n))
    features = found[job.row.pooling]
    seconds_features, read_cpu_s = time.monotonic() - started_s, time.process_time()
    started_s = time.monotonic()
    layer = frozen.head_layer(student())
    head = _fitted_head(job, features[: len(pairs)], has_bias=layer.bias is not None)
    logits = head.logits(features[len(pairs) :])
    seconds_training, fitted_cpu_s = time.monotonic() - started_s, time.process_time()
    model = student()
    if job.row.pooling == "model":
        frozen.put_head(model, head)
        model.save(job.folder / "student")
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


def _fitted_head(job: Job, features: frozen.Matrix, *, has_bias: bool) -> frozen.FrozenHead:
    row, pairs, training = job.row, job.drawn.pairs, job.training
    loss = build_loss(training, positive_weight=job.positive_weight)
    labels = [float(pair.label or 0.0) for pair in pairs]
    query_ids = [pair.query_id for pair in pairs]
    if row.learning_rate is None:
        if row.loss == "contrastive":
            raise InvalidSettings(f"row {row.name}: the contrastive loss is one of batches; set rows.learning_rate")
        return frozen.fit_head(features, labels, loss, query_ids=query_ids, has_bias=has_bias)
    return frozen.train_head(
        features,
        labels,
        loss,
        query_ids=query_ids,
        has_bias=has_bias,
        learning_rate=row.learning_rate,
        epochs=training.epochs,
        batch_pairs=training.batch_pairs * training.accumulation,
        floor=training.floor,
        seed=job.seed,
    )
