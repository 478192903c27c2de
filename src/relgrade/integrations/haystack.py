"""Haystack: the ranker under the name that the other adapters have.

It lives in `haystack_integrations`, as pipeline files load components from there without being told to.
"""

from haystack_integrations.components.rankers.relgrade import RelgradeRanker as RelgradeRanker
