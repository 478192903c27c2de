"""What is done to pairs before training: splits by query, leak checks, class balance, caps. It never sees a model."""

from relgrade.data.balance import ClassWeights, balance, class_weights, prior_shift
from relgrade.data.caps import cap_by_query
from relgrade.data.leaks import Leak, LeakExample, LeakReport, drop_leaks, find_leaks
from relgrade.data.random_negatives import add_random_negatives
from relgrade.data.splits import split_by_query

__all__ = [
    "ClassWeights",
    "Leak",
    "LeakExample",
    "LeakReport",
    "add_random_negatives",
    "balance",
    "cap_by_query",
    "class_weights",
    "drop_leaks",
    "find_leaks",
    "prior_shift",
    "split_by_query",
]
