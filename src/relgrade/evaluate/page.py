"""The report as one HTML file that loads nothing: style and curves are inside, and no script can run in it.

It is made from the JSON of a report alone. Queries and documents are untrusted: Jinja2 escapes every value, and the
page's own content policy forbids scripts and connections should one ever slip through.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from relgrade.errors import MissingExtra
from relgrade.evaluate.figures import reliability_figure, threshold_figure

# Measure -> what the table calls it, what it means, whether more is better.
MEASURES: tuple[tuple[str, str, str, bool], ...] = (
    ("precision", "Precision", "of what is kept, the share that is relevant", True),
    ("recall", "Recall", "of what is relevant, the share that is kept", True),
    ("f1", "F1", "harmonic mean of precision and recall", True),
    ("losing_all", "Queries losing all", "queries that keep no relevant document though they have one", False),
    ("false_keep", "False keeps", "queries without a relevant document that keep something", False),
    ("accuracy", "Accuracy", "share of right verdicts", True),
    ("mcc", "MCC", "Matthews correlation of verdict and label", True),
    ("kappa", "Kappa", "Cohen's kappa of verdict and label", True),
    ("average_precision", "Average precision", "area under the precision-recall steps, no threshold", True),
    ("auroc", "AUROC", "chance that a relevant pair outscores an irrelevant one", True),
    ("ndcg_at_10", "nDCG@10", "mean over queries with a relevant document", True),
    ("brier", "Brier score", "mean squared distance of probability and label", False),
    ("calibration_error", "Calibration error", "ECE over 15 bins of equal mass", False),
    ("log_loss", "Log loss", "in nats", False),
    ("best_f1", "Best F1", "threshold chosen on these very pairs: information only", True),
)
TWIN_MEASURES = (
    ("auroc", "AUROC of “nothing relevant”", "chance that the list with a relevant document scores higher", True),
    ("false_accepts", "False accepts at 90 % recall", "lists without, let through where 90 % of the others are", False),
    ("keeps_something", "Keeps something", "lists without a relevant document that keep any, at the threshold", False),
)
NO_VALUE, MINUS = "\u2013", "\u2212"  # dashes as printers know them
TILES = ("precision", "recall", "losing_all", "false_keep", "average_precision", "calibration_error", "f1", "accuracy")
N_TILES = 6
SLICE_COLUMNS = ("precision", "recall", "losing_all", "false_keep", "average_precision", "calibration_error")
DIFFERENCES = ("precision", "recall", "f1", "accuracy", "losing_all", "false_keep", "average_precision")


def render_page(report: Mapping[str, Any]) -> str:
    """One HTML file.

    Args:
        report: `Report.to_json()`, or what is read back from the file.

    Raises:
        MissingExtra: jinja2 or matplotlib is not installed.
    """
    environment = _environment()
    grader = report["contenders"][0]["evaluation"]
    labels = {name: (label, meaning, is_better) for name, label, meaning, is_better in MEASURES}
    curve, reliability = report["curve"], report["reliability"]
    page: str = environment.get_template("report.html").render(
        report=report,
        grader=grader,
        labels=labels,
        measures=[name for name, *_ in MEASURES if _has_any(report, name)],
        twin_measures=TWIN_MEASURES,
        tiles=[name for name in TILES if _has_value(grader[name])][:N_TILES],
        slice_columns=SLICE_COLUMNS,
        differences=DIFFERENCES,
        missing=_missing(grader),
        style=_markup(_asset("report.css")),
        reliability_svg=None if reliability is None else _markup(reliability_figure(reliability)),
        threshold_svg=None if curve is None else _markup(threshold_figure(curve, threshold=grader["threshold"])),
    )
    return page


def _has_any(report: Mapping[str, Any], name: str) -> bool:
    return any(_has_value(each["evaluation"][name]) for each in report["contenders"])


def _has_value(estimate: Mapping[str, Any] | None) -> bool:
    return estimate is not None and estimate["value"] is not None


def _missing(evaluation: Mapping[str, Any]) -> dict[str, list[str]]:
    """Reason -> what the table calls the measures that have no value for it."""
    names: dict[str, list[str]] = {}
    for name, label, *_ in MEASURES:
        found = evaluation[name]
        if found is not None and found["value"] is None:
            names.setdefault(str(found["reason"]), []).append(label)
    return names


def _environment() -> Any:
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtra("jinja2", extra="evaluate", purpose="write the HTML report") from error
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_asset),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "interval": _interval, "signed": _signed, "bar": _bar, "plain": _plain}
    return environment


def _asset(name: str) -> str:
    return files("relgrade.evaluate").joinpath("templates", name).read_text(encoding="utf-8")


def _markup(text: str) -> Any:
    from markupsafe import Markup  # comes with jinja2

    return Markup(text)  # our own stylesheet and figures, which hold no text of the data


def _number(estimate: Mapping[str, Any] | None) -> str:
    return NO_VALUE if estimate is None or estimate["value"] is None else f"{estimate['value']:.3f}"


def _signed(estimate: Mapping[str, Any] | None) -> str:
    return (
        NO_VALUE if estimate is None or estimate["value"] is None else f"{estimate['value']:+.3f}".replace("-", MINUS)
    )


def _interval(estimate: Mapping[str, Any] | None, sign: str = "") -> str:
    if estimate is None or estimate["value"] is None or estimate["low"] is None:
        return ""
    return f"{estimate['low']:{sign}.3f} to {estimate['high']:{sign}.3f}".replace("-", MINUS)


def _bar(estimate: Mapping[str, Any] | None) -> str:
    """Where the interval lies between 0 and 1, as CSS variables in percent; empty where there is none."""
    if estimate is None or estimate["low"] is None or not 0.0 <= estimate["low"] <= estimate["high"] <= 1.0:
        return ""
    low, high, value = (100.0 * estimate[name] for name in ("low", "high", "value"))
    return f"--low:{low:.1f}%;--width:{max(high - low, 0.8):.1f}%;--value:{value:.1f}%"


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
