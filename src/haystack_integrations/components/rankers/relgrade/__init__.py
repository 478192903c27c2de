"""The component for Haystack pipelines. It lives in this namespace because pipeline files may load from here."""

from haystack_integrations.components.rankers.relgrade.ranker import RelgradeRanker

__all__ = ["RelgradeRanker"]
