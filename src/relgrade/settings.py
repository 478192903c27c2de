"""One small frozen dataclass per step of a recipe, checked on creation, read from one TOML file.

A table of the file is a dataclass here, a key is a field; an unknown key or a wrong type is an error that names the
file. Nothing is read from the environment.
"""

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from relgrade.errors import InvalidSettings


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidSettings(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One collection of labelled pairs."""

    name: str  # used in caps, slices and the model card
    path: str  # jsonl, csv, parquet, a BEIR folder; relative paths are resolved by `Recipe.read`
    split: str | None = None  # take only rows of this split, None takes all
    max_pairs: int | None = None  # cap, whole queries drawn with the recipe's seed
    rubric: str = "answer-bearing"  # what a label means here
    licence: str = "unknown"  # for the card

    def __post_init__(self) -> None:
        _require(self.max_pairs is None or self.max_pairs > 0, f"sources.max_pairs must be > 0, got {self.max_pairs}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSettings:
    """Shares of the queries; what is left trains. Rows that name a split of their own keep it."""

    validation: float = 0.1  # early stopping and the choice between models
    calibration: float = 0.1  # probability and operating point
    test: float = 0.0  # report; 0 when the test pairs live in files of their own
    near_duplicate: float = 0.9  # Jaccard similarity of word 5-grams from which two documents count as the same
    on_leak: Literal["report", "drop", "raise"] = "report"  # drop removes the training rows that leak

    def __post_init__(self) -> None:
        shares = (self.validation, self.calibration, self.test)
        _require(
            all(0.0 <= share < 1.0 for share in shares) and sum(shares) < 1.0,
            f"split shares {shares} leave nothing to train on",
        )
        _require(
            0.0 < self.near_duplicate <= 1.0, f"splits.near_duplicate must be in (0, 1], got {self.near_duplicate}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomNegativesSettings:
    """Documents drawn at random as negatives of each training, validation and calibration query."""

    same_source: int = 0  # per query, from its own collection
    other_source: int = 0  # per query, from another collection of the recipe

    def __post_init__(self) -> None:
        for name in ("same_source", "other_source"):
            _require(getattr(self, name) >= 0, f"random_negatives.{name} must be >= 0, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceSettings:
    """What is done about class imbalance, in the training split only."""

    method: Literal["none", "class-weights", "oversample", "undersample"] = "none"
    negatives_per_positive: float = 1.0  # target ratio of the resampled split, or of the weighted loss

    def __post_init__(self) -> None:
        _require(self.negatives_per_positive > 0, "balance.negatives_per_positive must be > 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentSettings:
    """The model to train."""

    architecture: Literal["cross-encoder", "interaction"] = "cross-encoder"
    base: str = "sentence-transformers/all-MiniLM-L6-v2"  # Hub id, or a local folder
    revision: str | None = None  # commit of the Hub id; ignored for a folder
    max_tokens: int = 256  # cross-encoder: whole pair; interaction: one window of a document
    max_query_tokens: int = 64  # tokens of the query that are read
    max_windows: int = 8  # interaction: windows of a document that are read
    n_labels: Literal[1, 2] = 1  # cross-encoder: logits of the head; two are folded at export
    template: Literal["pair", "pass-fail"] = "pair"  # cross-encoder: two segments, or the paper's prompt for decoders
    train_encoder: bool = True  # False freezes the backbone and trains the head
    head: Literal["blend", "monotone", "free"] = "blend"  # interaction: may more evidence speak against a document?
    hidden: int = 32  # interaction: width of the head
    dropout: float = 0.1  # head only; interaction: a free head only
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        _require(self.max_tokens >= 16, f"student.max_tokens must be >= 16, got {self.max_tokens}")
        _require(self.max_query_tokens >= 4, f"student.max_query_tokens must be >= 4, got {self.max_query_tokens}")
        _require(
            self.architecture == "interaction" or self.max_query_tokens < self.max_tokens - 3,
            f"student.max_query_tokens ({self.max_query_tokens}) leaves no room for a document "
            f"in max_tokens ({self.max_tokens})",
        )
        _require(self.hidden >= 2 and self.hidden % 2 == 0, f"student.hidden must be even and >= 2, got {self.hidden}")
        _require(0.0 <= self.dropout < 1.0, f"student.dropout must be in [0, 1), got {self.dropout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """The optimisation."""

    loss: Literal["binary-cross-entropy", "listwise", "focal", "contrastive"] = "binary-cross-entropy"
    epochs: float = 1.0
    max_steps: int = -1  # -1: decided by epochs
    batch_tokens: int = 4096  # padded tokens of one forward pass
    batch_pairs: int = 32  # pairs of one forward pass, at most
    accumulation: int = 1  # forward passes of one optimiser step
    learning_rate: float = 2e-5  # peak
    head_learning_rate: float | None = None  # peak for the new layers; None: the same
    floor: float = 0.1  # last learning rate as a share of the peak (cosine)
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.01
    max_gradient_norm: float = 1.0
    label_smoothing: float = 0.0
    source_weight_power: float = 0.0  # a pair of a source of n pairs weighs n ** -power: 1 makes sources equal
    bf16: Literal["auto", "on", "off"] = "auto"  # auto: where the hardware has it
    sharded: bool = False  # processes of torchrun share weights, gradients and optimiser (FSDP), else each holds all
    checkpoint_steps: int = 200  # optimiser steps between checkpoints and validations
    keep_checkpoints: int = 2
    patience: int = 5  # validations without gain before training stops
    metric: str = "average_precision"  # macro-averaged over the sources of the validation queries

    def __post_init__(self) -> None:
        positive = "batch_tokens batch_pairs accumulation learning_rate checkpoint_steps patience max_gradient_norm"
        for name in positive.split():
            _require(getattr(self, name) > 0, f"training.{name} must be > 0, got {getattr(self, name)}")
        _require(self.epochs > 0 or self.max_steps > 0, "training needs epochs > 0 or max_steps > 0")
        for name in ("floor", "warmup", "label_smoothing", "source_weight_power"):
            _require(0.0 <= getattr(self, name) <= 1.0, f"training.{name} must be in [0, 1], got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSettings:
    """Graphs and what they may lose."""

    max_logit_error: float = 1e-4  # torch against ONNX fp32, absolute
    max_verdict_flips: float = 0.005  # share of pairs whose verdict differs between fp32 and int8
    quantise: bool = True
    # Products of the int8 graph: "float" turns the weights into floats when the graph is loaded; "two-digit" multiplies
    # in int8 by two digits of each activation: about 1.4 times as fast where the processor has VNNI, the same verdicts.
    arithmetic: Literal["float", "two-digit"] = "float"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """How logits become probabilities, and which two points the three-way verdict stands on."""

    methods: tuple[Literal["temperature", "platt", "isotonic"], ...] = ("temperature", "platt", "isotonic")
    cut: float | None = 0.5  # a label from here on is relevant for operating points; None refuses other than 0 and 1
    base_rate: float | None = None  # share of relevant documents at work; None: that of the calibration pairs
    by: str | None = None  # field whose values get a calibration and points of their own, such as `source`
    upper: str = "high-precision"  # point from which on the verdict is "relevant"
    lower: str = "high-recall"  # point below which it is "not relevant"; without either point there is no "unsure"
    label_source: str = "the labels of the calibration pairs"  # whom the promises hold against, for the card
    any_relevant: bool = True  # fit the probability that a list holds something relevant, where the pairs allow it
    answerable: float = 0.5  # share of queries at work that have a relevant document, for that probability

    def __post_init__(self) -> None:
        _require(len(self.methods) > 0, "calibration.methods names no method")
        for name in ("base_rate", "answerable"):
            value = getattr(self, name)
            _require(value is None or 0.0 < value < 1.0, f"calibration.{name} must be between 0 and 1, got {value}")
        _require(self.cut is None or self.cut > 0.0, f"calibration.cut must be > 0, got {self.cut}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PointSettings:
    """An operating point to look for: a promise, or the best F1, which promises nothing."""

    name: str
    kind: Literal["best-f1", "precision", "recall", "lost-queries", "false-keeps"]  # see `records.Promise`
    target: float | None = None  # share in (0, 1); none for best-f1
    delta: float = 0.1  # chance, over the draw of the calibration queries, that the promise is broken
    max_per_query: int | None = None  # documents that one query counts at most, for precision and recall; None: all
    required: bool = False  # stop where no threshold keeps the promise; else leave the point out and say so

    def __post_init__(self) -> None:
        _require(bool(self.name.strip()), "points.name is blank")
        if self.kind == "best-f1":
            _require(self.target is None, f"points: {self.name} is best-f1, which has no target; leave it out")
            return
        is_share = self.target is not None and 0.0 < self.target < 1.0
        _require(is_share, f"points: {self.name} needs a target between 0 and 1, got {self.target}")
        _require(0.0 < self.delta < 1.0, f"points: delta of {self.name} must be between 0 and 1, got {self.delta}")
        limit = self.max_per_query
        _require(limit is None or limit >= 1, f"points: max_per_query of {self.name} must be >= 1, got {limit}")


# `balanced` first: the first point of a bundle is its default, and this one is always found.
DEFAULT_POINTS = (
    PointSettings(name="balanced", kind="best-f1"),
    PointSettings(name="high-precision", kind="precision", target=0.8),
    PointSettings(name="high-recall", kind="recall", target=0.9),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleSettings:
    """What the bundle says about itself."""

    name: str = "unnamed"
    description: str = ""
    rubric: str = "answer-bearing"
    licence: str = "unknown"
    base_licence: str = "unknown"
    base_name: str = ""  # under which the base is published, when student.base is a local folder
    n_golden: int = (
        16  # pairs whose logits travel with the bundle; taken from the calibration split unless golden_pairs
    )
    golden_pairs: str | None = None  # file of pairs to use instead, when the data may not be redistributed


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A whole run: pairs in, bundle out."""

    seed: int = 0
    sources: tuple[SourceSettings, ...] = ()
    splits: SplitSettings = field(default_factory=SplitSettings)
    random_negatives: RandomNegativesSettings = field(default_factory=RandomNegativesSettings)
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    student: StudentSettings = field(default_factory=StudentSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)
    points: tuple[PointSettings, ...] = DEFAULT_POINTS  # the first is the bundle's default
    bundle: BundleSettings = field(default_factory=BundleSettings)

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        _require(len(set(names)) == len(names), f"two sources have one name: {names}")
        points = [point.name for point in self.points]
        _require(len(points) > 0, "a grader needs an operating point; leave points out for the usual ones")
        _require(len(set(points)) == len(points), f"two points have one name: {points}")

    @classmethod
    def read(cls, path: Path | str, *, data_folder: Path | str | None = None) -> Self:
        """Read a TOML file.

        Args:
            path: the file.
            data_folder: where relative source paths start; None: the folder of the file, as for `bundle.golden_pairs`.

        Raises:
            InvalidSettings: not TOML, an unknown key, a wrong type or a value out of range; names the file.
        """
        path = Path(path)
        recipe: Self = read_settings(cls, path)
        base = Path(data_folder) if data_folder is not None else path.parent
        sources = tuple(replace(source, path=str(base / source.path)) for source in recipe.sources)
        bundle = recipe.bundle
        if bundle.golden_pairs is not None:  # it travels with the recipe, not with the data
            bundle = replace(bundle, golden_pairs=str(path.parent / bundle.golden_pairs))
        return replace(recipe, sources=sources, bundle=bundle)


def read_settings(kind: Any, path: Path | str) -> Any:
    """The dataclass `kind` from a TOML file, paths as written; raises InvalidSettings, which names the file."""
    try:
        with Path(path).open("rb") as file:
            return _build(kind, tomllib.load(file), place="")
    except FileNotFoundError as error:
        raise InvalidSettings(f"{path}: no such settings file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, InvalidSettings) as error:
        reason = str(error) if isinstance(error, InvalidSettings) else f"not TOML: {error}; correct the file"
        raise InvalidSettings(f"{path}: {reason}") from error


def _build(kind: Any, table: Mapping[str, Any], *, place: str) -> Any:
    """Turn one TOML table into the dataclass `kind`; `place` is the dotted path for messages."""
    hints = get_type_hints(kind)
    known = {item.name for item in fields(kind)}
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {place}{close[0]}?" if close else f"; known here: {', '.join(sorted(known))}"
            raise InvalidSettings(f"unknown setting {place}{key}{hint}")
    for item in fields(kind):
        if item.name not in table and item.default is MISSING and item.default_factory is MISSING:
            raise InvalidSettings(f"{place}{item.name} is missing")
    return kind(**{key: _convert(hints[key], value, place=f"{place}{key}") for key, value in table.items()})


def _convert(hint: Any, value: Any, *, place: str) -> Any:
    """Check `value` against a field's type and convert whole numbers to float and lists to tuples."""
    origin = get_origin(hint)
    if hasattr(hint, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise InvalidSettings(f"{place} must be a table, got {value!r}")
        return _build(hint, value, place=f"{place}.")
    if origin is tuple:
        if not isinstance(value, list):
            raise InvalidSettings(f"{place} must be a list of tables, got {value!r}")
        return tuple(_convert(get_args(hint)[0], item, place=f"{place}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        if value not in get_args(hint):
            raise InvalidSettings(f"{place} must be one of {', '.join(map(repr, get_args(hint)))}, got {value!r}")
        return value
    if origin in (types.UnionType, typing.Union):
        return _convert(next(arg for arg in get_args(hint) if arg is not type(None)), value, place=place)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise InvalidSettings(f"{place} must be of type {hint.__name__}, got {value!r}")
    return value
