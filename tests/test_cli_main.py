import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

from relgrade.cli import main
from relgrade.cli.main import COMMANDS, LazyCommand, LazyGroup
from relgrade.cli.outcome import escape_controls, one_line
from relgrade.errors import InvalidInput, MissingExtra


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def group_that(action):
    """A group of the real kind with one command that does `action`."""
    group = LazyGroup("relgrade", params=[click.Option(["--debug"], is_flag=True)])
    group.add_command(click.Command("act", callback=action))
    return group


def raising(error):
    def action():
        raise error

    return action


def test_help_lists_every_command_without_importing_any():
    loaded = run_python(
        "import sys\n"
        "from relgrade.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "heavy = {'onnxruntime', 'torch', 'numpy', 'tokenizers', 'rich', 'relgrade.cli.grade'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))"
    )
    assert "HEAVY []" in loaded.stdout, loaded.stdout + loaded.stderr
    for name, command in COMMANDS.items():
        assert name in loaded.stdout
        assert command.help.split()[0] in loaded.stdout


def test_help_is_quick():
    def seconds():
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "relgrade", "--help"], capture_output=True, check=True)
        return time.perf_counter() - started

    # The best of a few: the promise is about the work done, not about a busy machine.
    assert min(seconds() for _ in range(5)) < 0.3


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_can_be_loaded_and_explains_itself(name):
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_listed_help_is_one_short_line(name):
    text = COMMANDS[name].help
    assert "\n" not in text
    assert len(text) <= 70
    assert text.endswith(".")


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert CliRunner().invoke(main, ["--version"]).output == f"relgrade {version('relgrade')}\n"


def test_an_unknown_command_is_a_usage_error():
    result = CliRunner().invoke(main, ["grad"])
    assert result.exit_code == 2
    assert "No such command 'grad'" in result.stderr


def test_an_error_of_ours_is_one_line_and_code_2():
    result = CliRunner().invoke(group_that(raising(InvalidInput("found a\nexpected b"))), ["act"])
    assert result.exit_code == 2
    assert result.stderr == "relgrade: found a expected b\n"
    assert result.stdout == ""


def test_debug_adds_the_trace():
    result = CliRunner().invoke(group_that(raising(InvalidInput("found a"))), ["--debug", "act"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("relgrade: found a\n")


def test_an_unforeseen_error_shows_no_trace_and_has_a_code_of_its_own():
    result = CliRunner().invoke(group_that(raising(KeyError("x"))), ["act"])
    assert result.exit_code == 3
    assert "Traceback" not in result.stderr
    assert "unexpected KeyError" in result.stderr
    assert "--debug" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (PermissionError(13, "Permission denied", "/x"), 2, "/x: permission denied"),
        (MemoryError(), 3, "out of memory"),
        (RecursionError("deep"), 3, "RecursionError"),
    ],
)
def test_errors_of_the_system(error, code, words):
    result = CliRunner().invoke(group_that(raising(error)), ["act"])
    assert (result.exit_code, result.stderr.count("\n")) == (code, 1)
    assert words in result.stderr


def test_a_closed_pipe_is_quiet():
    result = CliRunner().invoke(group_that(raising(BrokenPipeError(32, "Broken pipe"))), ["act"])
    assert (result.exit_code, result.stderr) == (141, "")


def test_an_error_message_cannot_drive_the_terminal():
    result = CliRunner().invoke(group_that(raising(InvalidInput("id \x1b[31mred\x07"))), ["act"])
    assert result.stderr == "relgrade: id \\x1b[31mred\\x07\n"


def lazy_group(module, *, extra):
    table = {"other": LazyCommand(f"{module}:command", "Does more.", extra)}
    return LazyGroup("relgrade", lazy=table, params=[click.Option(["--debug"], is_flag=True)])


@pytest.fixture
def module_that(tmp_path, monkeypatch):
    def write(code):
        name = f"lazy_command_{abs(hash(code)) % 10**8}"
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        return name

    return write


def test_a_command_whose_extra_is_missing_is_listed_and_says_what_to_install(module_that):
    group = lazy_group(module_that("import no_such_package_here"), extra="train")
    assert "Does more." in CliRunner().invoke(group, ["--help"]).output
    result = CliRunner().invoke(group, ["other"])
    assert result.exit_code == 2
    assert result.stderr == (
        "relgrade: no_such_package_here is needed to run relgrade other and is not installed; "
        "run: pip install 'relgrade[train]'\n"
    )


def test_a_gate_of_the_package_itself_passes_through(module_that):
    code = "from relgrade.errors import MissingExtra\nraise MissingExtra('torch', extra='train', purpose='train')"
    result = CliRunner().invoke(lazy_group(module_that(code), extra="train"), ["other"])
    assert result.stderr == f"relgrade: {MissingExtra('torch', extra='train', purpose='train')}\n"


def test_a_broken_import_without_an_extra_is_a_fault_not_an_advice(module_that):
    result = CliRunner().invoke(lazy_group(module_that("import no_such_package_here"), extra=None), ["other"])
    assert result.exit_code == 3
    assert "pip install" not in result.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("naïve 北京 👩‍🚀", "naïve 北京 👩‍🚀"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\x9b1m", "\\x9b1m"),
        ("\ud800", "\\ud800"),
    ],
)
def test_controls_are_escaped_and_words_are_not(text, shown):
    assert escape_controls(text) == shown


def test_one_line_folds_whitespace():
    assert one_line(" a\n\tb\u2028c\x85d ") == "a b c d"
