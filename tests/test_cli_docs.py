import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "docs" / "make_cli.py"


def test_the_page_of_commands_is_what_the_commands_say():
    spec = importlib.util.spec_from_file_location("make_cli", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "out of date; run: python docs/make_cli.py"
