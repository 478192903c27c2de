"""What a table of configurations is made of: data, a base model, the optimisation they share, and one entry a row."""

import math
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal, Self

from relgrade.errors import InvalidSettings
from relgrade.settings import StudentSettings, TrainingSettings, read_settings

Method = Literal["stock", "judge", "A", "B", "C", "lora"]
RowLoss = Literal["cross-entropy", "contrastive", "focal", "class-weighted"]

_NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
_TRAINED = frozenset({"A", "B", "C", "lora"})
# Settings of a row and the methods that read them; the others are read by all. A method that would leave a setting
# unread refuses it: the row would be called what it is not.
_READ_BY = {
    "loss": _TRAINED,
    "negatives_per_positive": _TRAINED,
    "rank": frozenset({"lora"}),
    "alpha": frozenset({"lora"}),
    "pooling": frozenset({"B"}),
    "learning_rate": _TRAINED,
    "head_learning_rate": frozenset({"B", "C", "lora"}),  # A has no new layers
    "epochs": _TRAINED,
    "pairs": _TRAINED,
    "seed": _TRAINED,
    "labels": _TRAINED,
    "url": frozenset({"judge"}),
    "model": frozenset({"judge"}),
    "rubric": frozenset({"judge"}),
}
_SEEDS = 2**32  # numpy's older generator, which transformers seeds, takes no more


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InvalidSettings(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSettings:
    """One set of test pairs, the same for all rows."""

    __test__ = False  # no class of tests, whatever its name makes pytest think

    name: str
    path: str  # relative to the data folder
    split: str | None = "test"
    base_rate: float | None = None  # share of relevant documents, where it is known at work; None: not used

    def __post_init__(self) -> None:
        _require(
            self.base_rate is None or 0.0 < self.base_rate < 1.0,
            f"tests.base_rate must be between 0 and 1, got {self.base_rate}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSettings:
    """One configuration. What is None is taken from the table's own settings.

    A setting that the method does not read is refused. One at its default cannot be told from one that was not given.
    """

    name: str  # lower case, digits, dots and hyphens: it names files
    method: Method
    loss: RowLoss = "cross-entropy"
    negatives_per_positive: float | None = None  # of the training pairs drawn; None: as they come
    rank: int = 16  # lora
    alpha: float | None = None  # lora; None: twice the rank
    pooling: Literal["model", "mean"] = "model"  # B: what its own head reads, or the mean over the tokens
    learning_rate: float | None = None  # peak; B: None fits the head to the end instead
    head_learning_rate: float | None = None
    epochs: float | None = None
    pairs: int | None = None  # training pairs drawn, >= 2
    seed: int | None = None  # of the draw, of new weights and of batches
    labels: str | None = None  # file of pairs whose labels replace those of the training pairs, soft ones too
    url: str = ""  # judge: base URL of an OpenAI-compatible server
    model: str = ""  # judge: its name there
    rubric: str = "pass-fail"  # judge: name or .toml file of what it is told; the default is the paper's prompt

    def __post_init__(self) -> None:
        _require(
            _NAME.fullmatch(self.name) is not None,
            f"rows.name must be lower-case letters, digits, dots and hyphens, got {self.name!r}",
        )
        for name in ("negatives_per_positive", "learning_rate", "head_learning_rate", "epochs", "pairs", "alpha"):
            value = getattr(self, name)
            _require(value is None or 0 < value < math.inf, f"rows.{name} of {self.name} must be > 0, got {value}")
        _require(self.rank >= 1, f"rows.rank of {self.name} must be >= 1, got {self.rank}")
        _require(
            self.pairs is None or self.pairs >= 2,
            f"rows.pairs of {self.name} must be >= 2, one of either kind, got {self.pairs}",
        )
        _require(
            self.seed is None or 0 <= self.seed < _SEEDS,
            f"rows.seed of {self.name} must be >= 0 and below 2**32, got {self.seed}",
        )
        self._check_method()

    def _check_method(self) -> None:
        """What the method needs, and what it does not read."""
        _require(
            self.method != "judge" or bool(self.url and self.model),
            f"row {self.name} is a judge: it needs url and model",
        )
        _require(
            self.method != "A" or self.loss == "cross-entropy",
            f"row {self.name}: method A is trained on words by cross-entropy, got loss {self.loss!r}",
        )
        for item in fields(self):
            readers = _READ_BY.get(item.name)
            _require(
                readers is None or self.method in readers or getattr(self, item.name) == item.default,
                f"row {self.name}: method {self.method} does not read {item.name}; leave it out, or take a method that "
                f"does: {', '.join(sorted(readers or ()))}",
            )
        if self.method == "B" and self.learning_rate is None:
            for name in ("head_learning_rate", "epochs"):
                _require(
                    getattr(self, name) is None,
                    f"row {self.name}: a head of B is fitted to the end unless learning_rate is set, and {name} would "
                    f"not be read; set learning_rate, or leave {name} out",
                )
            _require(
                self.loss != "contrastive",
                f"row {self.name}: the contrastive loss is one of batches, and a head of B is fitted to all pairs at "
                "once; set learning_rate",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperSettings:
    """A table: every row is trained on a draw from the same pairs and judged on the same test pairs."""

    name: str
    train: str  # file of labelled pairs, relative to the data folder
    tests: tuple[TestSettings, ...]
    rows: tuple[RowSettings, ...]
    train_split: str | None = "train"
    pairs: int | None = None  # training pairs of each row; None: all that there are
    calibration_pairs: int = 400  # of training queries, never trained on: thresholds and probabilities
    test_queries: int | None = None  # of each test set, drawn with the seed; None: all
    min_precision: float = 0.775  # of the rule that asks for precision first; the paper's own figure
    seed: int = 0
    n_draws: int = 1000  # of the bootstrap over queries
    reads_in_bf16: bool = (
        False  # prompts and frozen backbones computed in bfloat16, at twice the speed where it is there
    )
    student: StudentSettings = field(default_factory=lambda: StudentSettings(n_labels=2))
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        for what in ("rows", "tests"):
            names = [each.name for each in getattr(self, what)]
            _require(bool(names), f"a table needs {what}")
            _require(len(set(names)) == len(names), f"two {what} have one name: {names}")
        for name in ("pairs", "test_queries"):
            value = getattr(self, name)
            _require(value is None or value >= 2, f"{name} must be >= 2, got {value}")
        _require(self.calibration_pairs >= 2, f"calibration_pairs must be >= 2, got {self.calibration_pairs}")
        _require(0 <= self.seed < _SEEDS, f"seed must be >= 0 and below 2**32, got {self.seed}")
        _require(self.n_draws >= 1, f"n_draws must be >= 1, got {self.n_draws}")
        _require(0.0 < self.min_precision < 1.0, f"min_precision must be between 0 and 1, got {self.min_precision}")
        _require(
            self.student.architecture == "cross-encoder",
            "the paper's configurations are cross-encoders: student.architecture",
        )

    @classmethod
    def read(cls, path: Path | str, *, data_folder: Path | str | None = None) -> Self:
        """Read a TOML file.

        Args:
            path: the file.
            data_folder: where relative paths of pairs start; None: the folder of the file, where those of rubrics do.

        Raises:
            InvalidSettings: not TOML, an unknown key, a wrong type or a value out of range; names the file.
        """
        read: Self = read_settings(cls, path)
        folder = Path(path).parent if data_folder is None else Path(data_folder)
        rows = tuple(_placed(row, data_folder=folder, table_folder=Path(path).parent) for row in read.rows)
        tests = tuple(replace(test, path=str(folder / test.path)) for test in read.tests)
        return replace(read, train=str(folder / read.train), tests=tests, rows=rows)


def _placed(row: RowSettings, *, data_folder: Path, table_folder: Path) -> RowSettings:
    """A row whose files can be opened from anywhere."""
    if row.labels is not None:
        row = replace(row, labels=str(data_folder / row.labels))
    if row.rubric.endswith(".toml"):
        row = replace(row, rubric=str(table_folder / row.rubric))
    return row
