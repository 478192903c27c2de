import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_grader import FakeGrader
from relgrade.cli import main

FAKE = Path(__file__).with_name("fake_grader.py")
N_PAIRS = 400


def pair_line(i):
    document = "nonumber" if i % 97 == 5 else f"thing {i} is of colour red ü\u2028" * (1 + i % 5)
    return json.dumps({"query": f"colour of thing {i}", "document": document, "n": i}).encode() + b"\n"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """An input with bad lines in it, and the output of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    lines = [pair_line(i) for i in range(N_PAIRS)]
    for at in (0, 150, 151, 390):
        lines.insert(at, b"{bad\n")
    path = folder / "pairs.jsonl"
    path.write_bytes(b"".join(lines))
    result = run_here(path, folder / "graded.jsonl")
    assert result.exit_code == 1
    return path, (folder / "graded.jsonl").read_bytes()


def run_here(source, output, *options, grader=None, stdin=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relgrade.cli.grade.load_grader", lambda *_, **__: grader or FakeGrader())
        arguments = ["grade", str(source), "-o", str(output), "--skip-bad", *options]
        return CliRunner().invoke(main, arguments, input=stdin)


def start_child(source, output, *, delay_s=0.004, **options):
    return subprocess.Popen(
        [sys.executable, str(FAKE), "grade", str(source), "-o", str(output), "--skip-bad"],
        env={**os.environ, "FAKE_DELAY_S": str(delay_s)},
        stderr=subprocess.PIPE,
        **options,
    )


def wait_for_rows(output, child, n):
    while not output.exists() or output.read_bytes().count(b"\n") < n:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)


def state_of(output):
    return json.loads(output.with_name(output.name + ".state.json").read_bytes())


def test_a_killed_run_goes_on_and_ends_as_if_nothing_had_happened(pairs, tmp_path):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    child = start_child(source, output)
    wait_for_rows(output, child, 100)
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=60)
    child.stderr.close()
    n_before = output.read_bytes().count(b"\n")
    assert 100 <= n_before < N_PAIRS
    grader = FakeGrader()
    result = run_here(source, output, grader=grader)
    assert (result.exit_code, output.read_bytes()) == (1, whole)
    assert "4 bad lines were skipped" in result.stderr
    # Errors raised in a chunk make the fake grade a few rows twice; a run from the start would grade all of them.
    assert grader.n_graded < 1.5 * (N_PAIRS - n_before)


def test_an_interrupted_run_says_what_is_written_and_goes_on(pairs, tmp_path):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    child = start_child(source, output)
    wait_for_rows(output, child, 100)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 130
    n_rows = output.read_bytes().count(b"\n")
    last = stderr.decode().splitlines()[-1]
    assert last == (f"relgrade: interrupted; {n_rows} whole rows are in {output}; run the same command again to go on")
    assert b"Traceback" not in stderr
    assert run_here(source, output).exit_code == 1
    assert output.read_bytes() == whole


def test_a_full_disk_leaves_whole_rows_and_goes_on(pairs, tmp_path):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    limit = len(whole) // 2 + 7  # in the middle of a row
    child = start_child(
        source, output, delay_s=0, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 2
    written = output.read_bytes()
    assert 0 < len(written) <= limit
    assert written.endswith(b"\n")
    assert whole.startswith(written)
    n_rows = written.count(b"\n")
    last = stderr.decode().splitlines()[-1]
    assert last.startswith(f"relgrade: no space left to write {output}; {n_rows} whole rows")
    assert b"Traceback" not in stderr
    run_here(source, output)
    assert output.read_bytes() == whole


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_byte_the_output_was_cut_at_the_end_is_the_same(pairs, tmp_path, data):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    run_here(source, output)
    assert output.read_bytes() == whole
    output.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    assert run_here(source, output).exit_code == 1
    assert output.read_bytes() == whole


def test_a_pipe_resumes_too(pairs, tmp_path):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    run_here("-", output, stdin=source.read_bytes())
    output.write_bytes(whole[: len(whole) // 3])
    run_here("-", output, stdin=source.read_bytes())
    assert output.read_bytes() == whole


def test_a_finished_run_grades_nothing_again(pairs, tmp_path):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    run_here(source, output)
    assert state_of(output)["is_finished"] is True
    grader = FakeGrader()
    result = run_here(source, output, grader=grader)
    assert (grader.n_graded, result.exit_code, output.read_bytes()) == (0, 1, whole)


def test_rows_added_to_the_input_are_graded(pairs, tmp_path):
    source, whole = pairs
    grown = tmp_path / "grown.jsonl"
    grown.write_bytes(source.read_bytes())
    output = tmp_path / "graded.jsonl"
    run_here(grown, output)
    grown.write_bytes(source.read_bytes() + pair_line(1000))
    run_here(grown, output)
    content = output.read_bytes()
    assert content.startswith(whole)
    assert json.loads(content[len(whole) :])["n"] == 1000


@pytest.mark.parametrize("is_piped", [False, True])
@pytest.mark.parametrize("cut", [0.3, 1.0])
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.replace(b'"n": 3}', b'"n": 33}'),
        lambda content: content[: len(content) // 2],
        lambda content: b"\n" + content,
        lambda content: b"",
    ],
    ids=["changed", "shorter", "shifted", "empty"],
)
def test_another_input_is_refused_and_nothing_is_touched(pairs, tmp_path, change, is_piped, cut):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    run_here(source, output)
    existing = whole[: whole.rfind(b"\n", 0, int(len(whole) * cut)) + 1]
    output.write_bytes(existing)
    other = tmp_path / "other.jsonl"
    other.write_bytes(change(source.read_bytes()))
    result = run_here("-", output, stdin=other.read_bytes()) if is_piped else run_here(other, output)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr.splitlines()[-1]
    assert output.read_bytes() == existing
    assert run_here(other, output).exit_code == 2  # the note still knows better
    run_here(source, output, "--overwrite")
    assert output.read_bytes() == whole


@pytest.mark.parametrize(
    ("grader", "words"),
    [(FakeGrader(bundle_hash="e" * 64), "with bundle"), (FakeGrader(point="strict"), "operating point 'balanced'")],
)
def test_another_grader_is_refused(pairs, tmp_path, grader, words):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    run_here(source, output)
    result = run_here(source, output, grader=grader)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "--overwrite" in result.stderr
    assert output.read_bytes() == whole
    assert run_here(source, output, "--overwrite", grader=grader).exit_code == 1


@pytest.mark.parametrize("state", [None, b"", b"{}", b"[1]", b'{"run": {}, "version": 99}', b"\xff"])
def test_a_file_that_no_run_left_is_refused(pairs, tmp_path, state):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    output.write_bytes(b"my notes\n")
    if state is not None:
        (tmp_path / "graded.jsonl.state.json").write_bytes(state)
    result = run_here(source, output)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "--overwrite" in result.stderr
    assert output.read_bytes() == b"my notes\n"
    run_here(source, output, "--overwrite")
    assert output.read_bytes() == whole


def test_two_processes_do_not_write_one_file(pairs, tmp_path):
    source, whole = pairs
    output = tmp_path / "graded.jsonl"
    child = start_child(source, output)
    wait_for_rows(output, child, 1)
    result = run_here(source, output, "--overwrite")
    assert result.exit_code == 2
    assert "another process" in result.stderr
    child.communicate(timeout=60)
    assert output.read_bytes() == whole


def test_memory_stays_flat(tmp_path):
    code = (
        "import resource, sys\n"
        f"sys.path.insert(0, {str(FAKE.parent)!r})\n"
        "from fake_grader import FakeGrader\n"
        "from relgrade.cli import grade, main\n"
        "grade.load_grader = lambda *_, **__: FakeGrader()\n"
        "main(['grade', *sys.argv[1:]], standalone_mode=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def peak_mb(n_rows):
        source = tmp_path / f"{n_rows}.jsonl"
        with source.open("wb") as file:
            for i in range(n_rows):
                file.write(json.dumps({"query": "q", "document": f"{i} " + "x" * 50_000}).encode() + b"\n")
        arguments = [str(source), "-o", str(tmp_path / f"{n_rows}.out")]
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
        return int(result.stdout) / 1024

    # 100 MB more of input; the whole difference allowed is a fraction of it.
    assert peak_mb(2400) - peak_mb(400) < 20


def test_a_terminal_shows_progress_and_a_log_does_not(pairs, tmp_path):
    source, whole = pairs
    controller, terminal = os.openpty()
    arguments = [sys.executable, str(FAKE), "grade", str(source), "-o", str(tmp_path / "graded.jsonl"), "--skip-bad"]
    environment = {**os.environ, "FAKE_DELAY_S": "0.002", "TERM": "xterm", "COLUMNS": "120"}
    child = subprocess.Popen(arguments, env=environment, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 65536):
            shown += piece
    except OSError:  # the other end of the terminal is closed
        pass
    os.close(controller)
    child.wait(timeout=60)
    assert (child.returncode, (tmp_path / "graded.jsonl").read_bytes()) == (1, whole)
    assert b"pairs, " in shown
    assert b"/s" in shown
    quiet = run_here(source, tmp_path / "quiet.jsonl")
    assert "pairs, " not in quiet.stderr


def test_a_long_run_in_a_log_reports_now_and_then(pairs, tmp_path, monkeypatch):
    source, _ = pairs
    monkeypatch.setattr("relgrade.cli.progress.LOG_EVERY_S", 0.0)
    result = run_here(source, tmp_path / "graded.jsonl")
    assert "128 pairs graded, " in result.stderr
    assert "% of the input, about " in result.stderr
