"""Quality, speed and size of graders in one table and one plot: which tier to take.

    python -m benchmarks.frontier --tier default BUNDLE QUALITY.json --tier nano BUNDLE QUALITY.json \
        --base FOLDER --peers PYTHON --data FOLDER [--plot FILE.svg] [--output FILE.json]

QUALITY.json is what `python -m benchmarks.quality --bundle BUNDLE --output QUALITY.json` wrote. Speed is measured here:
all tiers and sentence-transformers' CrossEncoder (torch, fp32, the encoder of `--base` under one logit) are asked for
the same mixed lists in turn, so that a busy minute is busy for all; ratios are taken list by list, by CPU seconds. The
last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.__main__ import REFERENCE, hardware
from benchmarks.speed.contenders import race, start_all
from benchmarks.speed.lists import draw_lists
from benchmarks.speed.weights import make_model
from benchmarks.speed.worker import BUNDLE

ROOT = Path(__file__).resolve().parent.parent
KIND = "mixed"
GOAL_SPEED, GOAL_LOSS = 10.0, 0.03  # of `nano`: times the reference, macro AP below the default's


@dataclass(frozen=True, slots=True)
class Tier:
    """One grader."""

    name: str
    macro_ap: float
    low: float  # of the interval of macro_ap
    high: float
    margin: float  # macro AP minus that of the better baseline of each file
    worst_difference: float  # of one file
    megabytes: float  # of the bundle, 10^6 bytes
    pairs_a_second: float
    times: float  # faster than the reference by CPU seconds: median of lists
    times_low: float  # lower quartile
    times_high: float

    @property
    def has_speed_goal(self) -> bool:
        """Whether it is as fast as the goal of `nano`."""
        return self.times >= GOAL_SPEED


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, draw, write."""
    options = _options(arguments)
    raced = measure_speed(
        {name: Path(bundle) for name, bundle, _ in options.tier},
        base=options.base,
        peers=options.peers,
        data=options.data,
        work=options.work,
        n_threads=options.threads,
        n_lists=options.lists,
        rounds=options.rounds,
    )
    tiers = [
        tier_of(name, Path(bundle), json.loads(Path(quality).read_text(encoding="utf-8")), raced[BUNDLE + bundle][KIND])
        for name, bundle, quality in options.tier
    ]
    found = {
        "benchmark": "frontier",
        "reference": REFERENCE,
        "reference_pairs_a_second": raced[REFERENCE][KIND]["pairs_a_second"],
        "lists": KIND,
        "threads": options.threads,
        "tiers": [asdict(tier) for tier in tiers],
        "hardware": hardware(),
    }
    print(table(tiers))
    if options.plot:
        draw(tiers, options.plot)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps(found, allow_nan=False))
    return 0


def measure_speed(
    bundles: Mapping[str, Path],
    *,
    base: str,
    peers: str,
    data: Path | None,
    work: Path,
    n_threads: int,
    n_lists: int,
    rounds: int,
) -> dict[str, dict[str, Any]]:
    """What `benchmarks.speed` says of each bundle and the reference, by contender."""
    make_model(base, work)
    pythons = {f"{BUNDLE}{folder}": sys.executable for folder in bundles.values()} | {REFERENCE: peers}
    contenders, failed = start_all(pythons, folder=work, n_threads=n_threads)
    try:
        if failed:
            raise SystemExit("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
        lists = {KIND: draw_lists(data, n_lists=n_lists)[KIND]}
        return race(contenders, lists, rounds=rounds, reference=REFERENCE)
    finally:
        for each in contenders:
            each.stop()


def tier_of(name: str, bundle: Path, quality: Mapping[str, Any], speed: Mapping[str, Any]) -> Tier:
    """A row from a bundle, its quality report and its row of the race.

    Raises:
        SystemExit: the report is of another bundle, or of a part of the files.
    """
    import hashlib

    found = hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    if quality["summary"].get("bundle_hash") != found:
        raise SystemExit(f"{name}: the quality report is of another bundle than {bundle}")
    if quality.get("limit_queries") is not None:
        raise SystemExit(f"{name}: the quality report is of some queries only")
    macro = quality["macro"]["grader"]
    middle, low, high = speed["cpu_ratio"]
    return Tier(
        name=name,
        macro_ap=round(macro["value"], 4),
        low=round(macro["low"], 4),
        high=round(macro["high"], 4),
        margin=round(quality["summary"]["margin"], 4),
        worst_difference=round(quality["summary"]["worst_difference"], 4),
        megabytes=round(sum(path.stat().st_size for path in bundle.iterdir()) / 1e6, 1),
        pairs_a_second=speed["pairs_a_second"],
        times=middle,
        times_low=low,
        times_high=high,
    )


def table(tiers: Sequence[Tier]) -> str:
    """A row a tier, best quality first; the last column is the loss to the first."""
    ordered = sorted(tiers, key=lambda tier: -tier.macro_ap)
    lines = [f"{'tier':12}{'macro AP':>9}{'interval':>18}{'loss':>8}{'MB':>7}{'pairs/s':>9}   times by CPU [quartiles]"]
    for tier in ordered:
        lines.append(
            f"{tier.name:12}{tier.macro_ap:9.3f}{f'[{tier.low:.3f}, {tier.high:.3f}]':>18}"
            f"{ordered[0].macro_ap - tier.macro_ap:8.3f}{tier.megabytes:7.1f}{tier.pairs_a_second:9.1f}"
            f"{tier.times:8.1f} [{tier.times_low:.1f}, {tier.times_high:.1f}]"
        )
    return "\n".join(lines)


def draw(tiers: Sequence[Tier], path: Path) -> None:
    """Quality over speed as an SVG, the area of a point its size in bytes, the goal of `nano` as a corner."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "frontier", "font.size": 10, "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        best = max(tier.macro_ap for tier in tiers)
        for tier in sorted(tiers, key=lambda tier: tier.times):
            bars = [[tier.macro_ap - tier.low], [tier.high - tier.macro_ap]]
            axes.errorbar(tier.times, tier.macro_ap, yerr=bars, color="#888", linewidth=1, capsize=3)
            axes.scatter(tier.times, tier.macro_ap, s=tier.megabytes * 6, color="#1f5fa8", zorder=3)
            note = f"{tier.name}, {tier.megabytes:.0f} MB"
            axes.annotate(note, (tier.times, tier.macro_ap), xytext=(9, 7), textcoords="offset points")
        axes.axhline(best - GOAL_LOSS, color="#b33", linewidth=0.8, linestyle="--")
        axes.axvline(GOAL_SPEED, color="#b33", linewidth=0.8, linestyle="--")
        axes.set_xscale("log")
        ticks = [each for each in (1, 2, 3, 5, 10, 20, 50) if each <= 2 * max(GOAL_SPEED, *(t.times for t in tiers))]
        axes.set_xticks(ticks, [f"{tick}x" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("speed, times sentence-transformers' CrossEncoder (torch, fp32)")
        axes.set_ylabel("macro AP, test files")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frontier", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--tier", nargs=3, action="append", required=True, metavar=("NAME", "BUNDLE", "QUALITY"), help="repeat it")
    add("--base", required=True, help="encoder of the reference, as for benchmarks.speed")
    add("--peers", required=True, help="python of an environment with sentence-transformers")
    add("--data", type=Path, help="folder of NAME.jsonl.gz; left out: the example corpus")
    add("--work", type=Path, default=ROOT / "runs" / "speed", help="folder for the reference's weights; kept")
    add("--threads", type=int, default=1, help="of every contender")
    add("--lists", type=int, default=8, help="of 20 documents")
    add("--rounds", type=int, default=3, help="times each list is asked for")
    add("--plot", type=Path, help="SVG to write")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "frontier.json", help="report to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
