"""Draws the figures of docs/paper.md from the results that are committed.

    python -m benchmarks.paper.figures [FOLDER of results] [FOLDER of figures]

No model is loaded and no data read; the same results give the same bytes.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.paper.row_tables import ARGMAX, TOP20, Row, load_rows, name_of, reading_of

RESULTS = Path(__file__).parent / "results"
FIGURES = Path(__file__).parent / "figures"
INK, LIGHT = "#1f4e79", "#9aa5b1"
PARAMETERS = {"svg.fonttype": "none", "svg.hashsalt": "paper", "font.size": 8, "font.family": "sans-serif"}


def main() -> None:
    """Draw every figure that has results."""
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    figures = Path(sys.argv[2]) if len(sys.argv) > 2 else FIGURES
    figures.mkdir(parents=True, exist_ok=True)
    rows = load_rows(results)
    with matplotlib.rc_context(PARAMETERS):
        if rows:
            _save(draw_rows(rows, TOP20), figures / "rows.svg")
            _save(draw_cost(rows, TOP20), figures / "cost.svg")
        noise = results / "questions.noise.json"
        if noise.is_file():
            _save(draw_noise(json.loads(noise.read_text(encoding="utf-8"))), figures / "noise.svg")


def draw_rows(rows: Sequence[Row], test: str) -> Figure:
    """Average precision of each row with its interval, and the share of relevant pairs, which guessing gets."""
    found = [(row, reading) for row in rows if (reading := reading_of(row, test, ARGMAX)) is not None]
    found.sort(key=lambda each: each[1]["average_precision"]["value"])
    figure, axes = _axes((5.2, 0.4 + 0.19 * len(found)))
    for place, (_, reading) in enumerate(found):
        _bar(axes, reading["average_precision"], place)
    axes.set_yticks(range(len(found)), [f"{name_of(row)} ({row['data']['n_train']:,})" for row, _ in found])
    axes.axvline(found[0][1]["n_relevant"] / found[0][1]["n_pairs"], color=LIGHT, linestyle="--", linewidth=0.8)
    axes.set_xlabel(f"average precision, {test}\n(dashed: guessing; in brackets: training pairs)")
    return figure


COLOURS = {"B": LIGHT, "lora": "#c8811a", "A": "#7a3b8f", "C": INK}
NAMES = {"B": "B: head alone", "lora": "adapters", "A": "A: words", "C": "C: everything"}
MARKERS = "os^v"


def draw_cost(rows: Sequence[Row], test: str) -> Figure:
    """Average precision over the seconds that training took one core; the best of their price are named."""
    figure, axes = _axes((5.2, 3.4))
    points = sorted(
        (seconds, -reading["average_precision"]["value"], name_of(row), row)
        for row in rows
        if (reading := reading_of(row, test, ARGMAX)) and (seconds := row["cost"].get("cpu_seconds_training"))
    )
    markers = dict(zip(sorted({row["table"] for *_, row in points}), cycle(MARKERS), strict=False))
    best = 0.0
    for seconds, negative, name, row in points:
        style = {"color": COLOURS[row["row"]["method"]], "marker": markers[row["table"]]}
        axes.plot(seconds, -negative, linestyle="", markersize=4, **style)
        if -negative > best + 0.03:  # closer ones would be written over each other
            best = -negative
            is_left = seconds < 100
            axes.annotate(
                name,
                (seconds, best),
                textcoords="offset points",
                xytext=(4 if is_left else -4, 4),
                fontsize=6,
                horizontalalignment="left" if is_left else "right",
            )
    for method, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, markersize=4, label=NAMES[method])
    for table, marker in markers.items():
        axes.plot([], [], linestyle="", marker=marker, color="white", markeredgecolor=INK, markersize=4, label=table)
    axes.legend(frameon=False, loc="upper left")
    axes.set_xscale("log")
    axes.set_xlabel("seconds of one core to train (head alone: features not counted)")
    axes.set_ylabel(f"average precision, {test}")
    return figure


def draw_noise(answer: Mapping[str, Any]) -> Figure:
    """What the audit finds of flipped labels, over their share."""
    figure, axes = _axes((3.6, 2.4))
    for kind, style in (("random", "-o"), ("teacher-like", "--s")):
        rows = [row for row in answer["rows"] if row["kind"] == kind and "found_by_audit" in row]
        axes.plot(
            [row["share"] for row in rows],
            [row["found_by_audit"]["mean"] for row in rows],
            style,
            color=INK,
            label=kind,
            markersize=3,
        )
    shares = sorted({row["share"] for row in answer["rows"]})
    axes.plot(shares, shares, ":", color=LIGHT, label="guessing")
    axes.set_xlabel("share of labels flipped")
    axes.set_ylabel("flips among as many suspects")
    axes.legend(frameon=False)
    return figure


def _axes(size: tuple[float, float]) -> tuple[Figure, Any]:
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15)  # of inches: a viewer's letters may be wider
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _bar(axes: Any, measure: Mapping[str, float | None], place: int) -> None:
    axes.plot(measure["value"], place, "o", color=INK, markersize=3)
    if measure["low"] is not None:
        axes.plot([measure["low"], measure["high"]], [place, place], color=INK, linewidth=1)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
