"""Step `balance`: what is done about class imbalance, in the training pairs alone."""

from pathlib import Path

from relgrade.data import balance, class_weights, prior_shift
from relgrade.formats import read_pairs, write_pairs
from relgrade.pipeline.ledger import write_json
from relgrade.pipeline.splits import describe
from relgrade.settings import BalanceSettings


def balance_train(train_path: Path, output: Path, settings: BalanceSettings, *, seed: int) -> list[str]:
    """Resample or weigh.

    The shift of the log-odds that a student learns from this is recorded and not corrected here: calibration is fitted
    on pairs that were never balanced, and takes it back.

    Args:
        train_path: training pairs.
        output: folder for `pairs.jsonl`, and `balance.json` with `positive_weight` and `prior_shift`.
        settings: method and target ratio.
        seed: of the draw.

    Raises:
        InvalidInput: only one class is there.
    """
    before = list(read_pairs(train_path))
    after = balance(before, settings, seed=seed)
    weights = class_weights(before, settings)
    # A factor on the whole loss changes nothing that Adam does, so one number is enough.
    positive_weight = weights.positive / weights.negative
    shift = prior_shift(before, after) + weights.prior_shift
    output.mkdir(parents=True, exist_ok=True)
    write_pairs(output / "pairs.jsonl", after)
    told = {"method": settings.method, "positive_weight": positive_weight, "prior_shift": shift, "n_pairs": len(after)}
    write_json(output / "balance.json", told)
    return [f"{settings.method}: {describe(after)}, log-odds moved by {shift:+.3f}"]
