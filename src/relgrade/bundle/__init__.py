"""The folder a grader ships in: its format, safe reading and writing, and its card. No model is ever run here."""

from relgrade.bundle.card import render_card
from relgrade.bundle.decision import Decision
from relgrade.bundle.goldens import GoldenPair, goldens_to_bytes
from relgrade.bundle.query_prints import CALIBRATION_QUERIES_NAME, prints_from_bytes, prints_to_bytes, query_print
from relgrade.bundle.schema import FileEntry, Manifest
from relgrade.bundle.store import Bundle, load_bundle, write_bundle

__all__ = [
    "CALIBRATION_QUERIES_NAME",
    "Bundle",
    "Decision",
    "FileEntry",
    "GoldenPair",
    "Manifest",
    "goldens_to_bytes",
    "load_bundle",
    "prints_from_bytes",
    "prints_to_bytes",
    "query_print",
    "render_card",
    "write_bundle",
]
