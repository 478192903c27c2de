"""A recipe end to end: pairs in, bundle out. Every step is a function that reads and writes files."""

from relgrade.pipeline.ledger import StepReport
from relgrade.pipeline.run import run_recipe

__all__ = ["StepReport", "run_recipe"]
