"""The folder a grader ships in: its format, safe reading and writing, and its card. No model is ever run here."""

from relgrade.bundle.card import render_card
from relgrade.bundle.goldens import GoldenPair, goldens_to_bytes
from relgrade.bundle.schema import FileEntry, Manifest
from relgrade.bundle.store import Bundle, load_bundle, write_bundle

__all__ = [
    "Bundle",
    "FileEntry",
    "GoldenPair",
    "Manifest",
    "goldens_to_bytes",
    "load_bundle",
    "render_card",
    "write_bundle",
]
