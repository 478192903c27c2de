"""The curves of a report as SVG text for one HTML page: colours are CSS variables, so light and dark need no redrawing.

Drawn with matplotlib's objects, never its global state; nothing in a figure comes from documents or queries.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from relgrade.errors import MissingExtra

# Stand-ins that matplotlib writes into the SVG, and the CSS variable that takes the place of each.
INK, MUTED, GRID, FIRST, SECOND, THIRD, FOURTH, MARK = (f"#0a0b{number:02d}" for number in range(10, 18))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
    FOURTH: "var(--fourth)",
    MARK: "var(--ink)",
}
SIZE = (5.4, 3.7)  # inches; the page scales it
_PARAMETERS = {"svg.fonttype": "none", "font.size": 10.0, "path.simplify": True}


def reliability_figure(reliability: Mapping[str, Any]) -> str:
    """Observed share over mean probability of each bin, with intervals, and the diagonal of perfect calibration.

    Args:
        reliability: of `Report.to_json`.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _axes("Mean probability of the bin", "Share that is relevant")
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    bins = reliability["bins"]
    x = [each["mean_probability"] for each in bins]
    y = [each["share_relevant"]["value"] for each in bins]
    for each, place, share in zip(bins, x, y, strict=True):
        low, high = each["share_relevant"]["low"], each["share_relevant"]["high"]
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=FIRST, linewidth=1.6, alpha=0.55, solid_capstyle="round")
        axes.plot([place], [share], marker="o", markersize=5.5, color=FIRST, markeredgewidth=0)
    axes.plot(x, y, color=FIRST, linewidth=1.2, alpha=0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    return _svg(figure, "reliability", "Reliability curve: observed share of relevant pairs over predicted probability")


def threshold_figure(curve: Mapping[str, Any], *, threshold: float | None) -> str:
    """Precision, recall and the two rates by query over the threshold; a line marks where the grader decides.

    Args:
        curve: of `Report.to_json`.
        threshold: of the grader; None: no line.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    figure, axes = _axes("Threshold on the probability", "Share")
    styles = (
        ("precision", FIRST, "-"),
        ("recall", SECOND, "-"),
        ("losing_all", THIRD, "--"),
        ("false_keep", FOURTH, ":"),
    )
    for name, colour, style in styles:
        values = _floats(curve[name])
        if not all(value != value for value in values):  # NaN leaves a gap; all NaN is no line
            width = 2.2 if style == ":" else 1.9
            axes.plot(curve["thresholds"], values, color=colour, linewidth=width, linestyle=style)
    if threshold is not None and 0.0 <= threshold <= 1.0:
        axes.axvline(threshold, color=MARK, linewidth=1)
        is_left = threshold < 0.5
        axes.annotate(
            f"threshold {threshold:.3f}",
            (threshold, 1.03),
            xytext=(5 if is_left else -5, 0),
            textcoords="offset points",
            ha="left" if is_left else "right",
            va="bottom",
            color=INK,
            annotation_clip=False,
        )
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    return _svg(figure, "threshold", "Precision, recall and error rates by query over the threshold")


def _axes(x_label: str, y_label: str) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", extra="evaluate", purpose="draw the curves of a report") from error
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.set_xlabel(x_label, color=MUTED)
    axes.set_ylabel(y_label, color=MUTED)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)
    return figure, axes


def _svg(figure: Any, name: str, label: str) -> str:
    """The bare svg element: no XML header, no metadata, no fixed size, ids of its own, colours from the page."""
    import matplotlib

    target = io.StringIO()
    with matplotlib.rc_context({**_PARAMETERS, "svg.hashsalt": name}):
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = target.getvalue()
    text = text[text.index("<svg") :]
    # Its style sheet would hold for the whole page.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r"font:\s*([\d.]+)px[^;\"]*", r"font-size: \1px", text)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _floats(values: Sequence[float | None]) -> list[float]:
    return [float("nan") if value is None else float(value) for value in values]
