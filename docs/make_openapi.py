"""Writes docs/openapi.json from the app of `relgrade serve`; tests/test_serve_about.py fails while it is out of date.

Run it with `python docs/make_openapi.py`.
"""

import json
from pathlib import Path

from relgrade.serve import ModelRack, create_app, load_bundle_and_runtime

PAGE = Path(__file__).with_name("openapi.json")


def text(description: dict[str, object]) -> str:
    """The file of a description."""
    return json.dumps(description, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    app = create_app(ModelRack({"default": None}, load=load_bundle_and_runtime))
    PAGE.write_text(text(app.openapi()), encoding="utf-8")
