"""A recipe end to end. It knows the order of the steps and what each reads, and leaves the work to them.

sources -> read -> split -> balance -> fit -> export -> score -> calibrate -> parity -> bundle
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from relgrade.bundle import Bundle, load_bundle
from relgrade.formats import read_pairs
from relgrade.pipeline import balancing, bundling, calibrating, exporting, fitting, scoring, sources, splits
from relgrade.pipeline.graphs import open_runtime
from relgrade.pipeline.ledger import Ledger, StepReport, read_json, write_json
from relgrade.pipeline.measuring import measure_scores
from relgrade.pipeline.processes import is_main_process, share
from relgrade.pipeline.provenance import describe_base, describe_sources, library_versions, recipe_json
from relgrade.settings import Recipe

PARITY_PAIRS = 400  # of the calibration split: one flip is a quarter of a percent
SCORED = ("validation", "calibration", "test")


def run_recipe(recipe: Recipe, *, output: Path, on_step: Callable[[StepReport], None] | None = None) -> Bundle:
    """Run every step of a recipe that is not done yet.

    Killed at any moment and called again with the same arguments it goes on where it was, and the bundle has the same
    bytes. With changed settings or data, the steps that depend on them are done again. Under `torchrun` every process
    calls it: the first does every step, the others share the training and then wait for the bundle.

    Args:
        recipe: from `Recipe.read`, or made.
        output: folder of the run, made. `bundle/` in it is the result; the other files are those of the steps.
        on_step: is told each step when it is done.

    Returns:
        The bundle, as `Grader.load(output / "bundle")` reads it.

    Raises:
        InvalidSettings, InvalidData, InvalidInput: the recipe or its data cannot be used.
        SplitLeak: `splits.on_leak` is raise, and something stands in two splits.
        TrainingError: training cannot start or go on.
        NoSafeThreshold: no threshold keeps the promise of a required point.
        ParityError: the graphs do not judge as the student does.
        OutputError: a file cannot be written.
    """
    if not is_main_process():
        return _help(recipe, output)
    with Ledger(output, on_step=on_step) as ledger:
        run = _Run(recipe, output, ledger)
        run.data()
        run.student()
        run.decision()
        bundle = run.bundle()
        share()
        return bundle


def _help(recipe: Recipe, output: Path) -> Bundle:
    """What a process other than the first does."""
    if share():
        fitting.help_to_fit(**_fit_arguments(recipe, output))
    share()  # the bundle stands
    return load_bundle(output / "bundle")


def _fit_arguments(recipe: Recipe, output: Path) -> dict[str, Any]:
    """What fitting takes in every process; read when the steps before it are done."""
    balanced = output / "balanced"
    return {
        "train_path": balanced / "pairs.jsonl",
        "validation_path": output / "splits" / "validation.jsonl",
        "output": output,
        "student": recipe.student,
        "training": recipe.training,
        "seed": recipe.seed,
        "positive_weight": read_json(balanced / "balance.json")["positive_weight"],
    }


class _Run:
    """The steps of one run, with what each depends on."""

    def __init__(self, recipe: Recipe, output: Path, ledger: Ledger) -> None:
        self._recipe = recipe
        self._output = output
        self._ledger = ledger
        self._all = output / "pairs" / "all.jsonl"
        self._splits = output / "splits"
        self._balanced = output / "balanced"
        self._student = output / "student"
        self._graphs = output / "graphs"
        self._scores = output / "scores"
        self._calibration = output / "calibration.json"
        self._parity = output / "parity.json"

    def data(self) -> None:
        """Read, split, balance."""
        recipe = self._recipe
        # The place of a file decides nothing, and its bytes are an input of their own.
        named = [{**asdict(source), "path": None} for source in recipe.sources]
        self._ledger.run(
            "read",
            lambda _: sources.read_sources(recipe.sources, self._all, seed=recipe.seed),
            settings=[named, recipe.seed],
            inputs=[Path(source.path) for source in recipe.sources],
            outputs=["pairs"],
        )
        self._ledger.run(
            "split",
            lambda _: splits.split_pairs(
                self._all, self._splits, recipe.splits, seed=recipe.seed, random_negatives=recipe.random_negatives
            ),
            settings=[asdict(recipe.splits), asdict(recipe.random_negatives), recipe.seed],
            inputs=[self._all],
            outputs=["splits"],
        )
        train = self._splits / "train.jsonl"
        self._ledger.run(
            "balance",
            lambda _: balancing.balance_train(train, self._balanced, recipe.balance, seed=recipe.seed),
            settings=[asdict(recipe.balance), recipe.seed],
            inputs=[train],
            outputs=["balanced"],
        )

    def student(self) -> None:
        """Fit, export."""
        recipe = self._recipe
        base = Path(recipe.student.base)
        is_folder = base.is_dir()
        validation = self._splits / "validation.jsonl"
        calibrating.require_enough(self._splits / "calibration.jsonl")  # hours before it would be missed

        named = replace(recipe.student, base="") if is_folder else recipe.student
        report = self._ledger.run(
            "fit",
            lambda key: fitting.fit_student(**_fit_arguments(recipe, self._output), key=key),
            settings=[asdict(named), asdict(recipe.training), recipe.seed, library_versions()],
            inputs=[self._balanced, validation, *([base] if is_folder else [])],
            outputs=["student", fitting.REPORT_NAME],
        )
        if report.is_skipped:
            share(False)  # the other processes have nothing to help with
        self._ledger.run(
            "export",
            lambda _: exporting.export_student(self._student, self._graphs, recipe.export),
            settings=[asdict(recipe.export), library_versions()],
            inputs=[self._student],
            outputs=["graphs"],
        )

    def decision(self) -> None:
        """Score, calibrate, parity."""
        for split in SCORED:
            self._score(split)
        scores = self._scores / "calibration.jsonl"
        recipe = self._recipe
        reads_pairs = recipe.calibration.by not in (None, "source")  # scores know their source and no other field
        self._ledger.run(
            "calibrate",
            self._calibrate,
            settings=[asdict(recipe.calibration), [asdict(point) for point in recipe.points], recipe.seed],
            inputs=[
                scores,
                self._balanced / "balance.json",
                *([self._splits / "calibration.jsonl"] if reads_pairs else []),
            ],
            outputs=["calibration.json"],
        )
        self._ledger.run(
            "parity",
            self._measure_parity,
            settings=[asdict(self._recipe.export), self._recipe.seed],
            inputs=[self._student, self._graphs, self._calibration, self._splits / "calibration.jsonl"],
            outputs=["parity.json"],
        )

    def bundle(self) -> Bundle:
        """Write the bundle, or load the one that is there."""
        recipe = self._recipe
        golden = recipe.bundle.golden_pairs
        self._ledger.run(
            "bundle",
            self._make_bundle,
            settings=[recipe_json(recipe), describe_base(recipe), library_versions()],
            inputs=[
                self._splits,
                self._balanced / "balance.json",
                self._output / fitting.REPORT_NAME,
                self._graphs,
                self._scores,
                self._calibration,
                self._parity,
                *([Path(golden)] if golden is not None else []),
            ],
            outputs=["bundle"],
        )
        return load_bundle(self._output / "bundle")

    def _score(self, split: str) -> None:
        pairs_path, output = self._splits / f"{split}.jsonl", self._scores / f"{split}.jsonl"

        def score(_: str) -> list[str]:
            pairs = list(read_pairs(pairs_path))
            scoring.write_scores(output, scoring.score_pairs(pairs, open_runtime(self._graphs)) if pairs else [])
            return [f"{len(pairs):,} pairs"]

        self._ledger.run(
            f"score {split}", score, settings=[], inputs=[self._graphs, pairs_path], outputs=[f"scores/{split}.jsonl"]
        )

    def _calibrate(self, _: str) -> list[str]:
        by, values = self._recipe.calibration.by, None
        if by is not None and by != "source":
            values = calibrating.values_of(list(read_pairs(self._splits / "calibration.jsonl")), by)
        decision = calibrating.calibrate_scores(
            scoring.read_scores(self._scores / "calibration.jsonl"),
            settings=self._recipe.calibration,
            points=self._recipe.points,
            values=values,
            prior_shift=read_json(self._balanced / "balance.json")["prior_shift"],
            seed=self._recipe.seed,
        )
        calibrating.write_decision(self._calibration, decision)
        return calibrating.describe_decision(decision)

    def _measure_parity(self, _: str) -> list[str]:
        from relgrade.export import check_parity

        decision = calibrating.read_decision(self._calibration)
        pairs = list(read_pairs(self._splits / "calibration.jsonl"))
        report = exporting.measure_graphs(
            self._student,
            self._graphs,
            bundling.draw_pairs(pairs, PARITY_PAIRS, seed=self._recipe.seed),
            threshold=calibrating.threshold_logit(decision.calibration, decision.operating_points[0]),
            seed=self._recipe.seed,
        )
        write_json(self._parity, report.to_json())  # before it is judged: a report of a failure is worth having
        check_parity(report, self._recipe.export)
        flips = "no int8" if report.verdict_flips is None else f"int8 turns {report.verdict_flips:.2%} of verdicts"
        return [f"{report.n_pairs} pairs: fp32 within {report.max_logit_error:.2g} of the student, {flips}"]

    def _make_bundle(self, _: str) -> list[str]:
        recipe = self._recipe
        bundle = bundling.make_bundle(
            self._graphs,
            self._output / "bundle",
            settings=recipe.bundle,
            decision=calibrating.read_decision(self._calibration),
            goldens=bundling.choose_goldens(self._splits / "calibration.jsonl", recipe.bundle, seed=recipe.seed),
            provenance=self._provenance(),
            calibration_queries=[pair.query for pair in read_pairs(self._splits / "calibration.jsonl")],
        )
        size_mb = sum(entry.size for entry in bundle.manifest.files.values()) / 1e6
        return [f"{recipe.bundle.name}: {size_mb:.1f} MB, hash {bundle.hash[:12]}"]

    def _provenance(self) -> dict[str, Any]:
        decision = calibrating.read_decision(self._calibration)
        metrics = {
            f"{source} ({split} queries)": measured
            for split in ("validation", "test")
            for source, measured in measure_scores(
                scoring.read_scores(self._scores / f"{split}.jsonl"), decision.calibration, decision.operating_points[0]
            ).items()
        }
        parity = read_json(self._parity)
        names = ("n_pairs", "threshold", "max_logit_error", "verdict_flips")
        return {
            "base": describe_base(self._recipe),
            "sources": describe_sources(
                self._recipe, {split: list(read_pairs(self._splits / f"{split}.jsonl")) for split in splits.SPLITS}
            ),
            "balance": read_json(self._balanced / "balance.json"),
            "fit": read_json(self._output / fitting.REPORT_NAME),
            "parity": {name: parity[name] for name in names},
            "metrics": metrics,
            "seed": self._recipe.seed,
            "libraries": library_versions(),
            "recipe": recipe_json(self._recipe),
        }
