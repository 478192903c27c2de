"""The journal loses no finished row and keeps no torn one, whatever ends the process that writes it."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relgrade.errors import InvalidData, InvalidInput, OutputError, RelgradeError
from relgrade.formats import JsonlJournal

WRITER = """
import sys
from relgrade.formats import JsonlJournal
with JsonlJournal(sys.argv[1]) as journal:
    for i in range(journal.rows, int(sys.argv[2])):
        # Rows longer than a pipe's or page's worth, so that a kill can fall into one.
        journal.append([{"id": i, "text": f"row {i} " * 4_000}])
"""


def rows_of(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_rows_are_in_the_file_as_soon_as_append_returns(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonlJournal(path) as journal:
        journal.append([{"id": "a", "x": 1}, {"id": 2}])
        assert rows_of(path) == [{"id": "a", "x": 1}, {"id": 2}]
        assert (journal.rows, journal.finished, journal.done) == (2, ["a", "2"], {"a", "2"})
        journal.append([])
        journal.append([{"id": "é\ud800", "x": "\u2028"}])
    with JsonlJournal(path) as journal:
        assert journal.finished == ["a", "2", "é\ud800"]


def test_the_key_may_be_a_field_or_a_function(tmp_path):
    rows = [{"q": 1, "d": 2}, {"q": 1, "d": 3}]
    path = tmp_path / "a.jsonl"
    with JsonlJournal(path, key="d") as journal:
        journal.append(rows)
        assert journal.finished == ["2", "3"]
    with JsonlJournal(path, key=lambda row: f"{row['q']}/{row['d']}") as journal:
        assert journal.finished == ["1/2", "1/3"]


@given(data=st.data(), sizes=st.lists(st.integers(0, 30), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cut_anywhere_the_whole_lines_stay(tmp_path, data, sizes):
    path = tmp_path / "a.jsonl"
    path.unlink(missing_ok=True)
    rows = [{"id": i, "text": "é" * size} for i, size in enumerate(sizes)]
    with JsonlJournal(path) as journal:
        journal.append(rows)
    whole = path.read_bytes()
    n_bytes = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:n_bytes])
    n_left = whole[:n_bytes].count(b"\n")
    with JsonlJournal(path) as journal:
        assert journal.finished == [str(i) for i in range(n_left)]
        journal.append(rows[n_left:])
    assert path.read_bytes() == whole


def test_kill_9_in_the_middle_and_the_same_command_again(tmp_path):
    path = tmp_path / "a.jsonl"
    n_rows = 400
    command = [sys.executable, "-c", WRITER, str(path), str(n_rows)]
    n_before = 0
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            time_limit = time.monotonic() + 30
            while not path.exists() or path.stat().st_size <= n_before:
                assert time.monotonic() < time_limit
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        n_before = path.stat().st_size
    with path.open("ab") as file:  # a torn line for certain
        file.write(b'{"id": 399, "text": "ro')
    assert subprocess.run(command, check=False, timeout=60, stdout=subprocess.DEVNULL).returncode == 0
    assert [row["id"] for row in rows_of(path)] == list(range(n_rows))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no file size limit to stand for a full disk")
def test_a_real_write_error_keeps_whole_rows_only(tmp_path):
    # The limit on the size of a file makes a real write come back short and the next one fail, as on a full disk.
    program = """
import resource, signal, sys
from relgrade.errors import OutputError
from relgrade.formats import JsonlJournal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
journal = JsonlJournal(sys.argv[1])
try:
    journal.append([{"id": i, "text": "x" * 90} for i in range(30)])
except OutputError as error:
    print(error)
print(journal.finished)
resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
journal.append([{"id": i, "text": "x" * 90} for i in range(journal.rows, 30)])
"""
    path = tmp_path / "a.jsonl"
    ran = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    message, finished = ran.stdout.splitlines()
    assert (
        message == f"{path}: cannot be written: file too large; its 8 rows are whole, and the run can go on after them"
    )
    assert finished == str([str(i) for i in range(8)])
    assert [row["id"] for row in rows_of(path)] == list(range(30))


class Failing:
    """A file whose writes stop after some bytes."""

    def __init__(self, file, room, error):
        self._file, self.room, self._error = file, room, error

    def write(self, data):
        if not self.room:
            raise self._error
        n = self._file.write(data[: self.room])
        self.room -= n
        return n

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_every_place_a_disk_can_be_full_at(tmp_path):
    rows = [{"id": i} for i in range(3)]
    line = len(b'{"id": 0}\n')
    for room in range(3 * line):
        path = tmp_path / f"{room}.jsonl"
        with JsonlJournal(path) as journal:
            journal._file = Failing(journal._file, room, OSError(errno.ENOSPC, "No space left on device"))
            with pytest.raises(OutputError, match="no space left on device") as caught:
                journal.append(rows)
            assert isinstance(caught.value, RelgradeError)
            assert (caught.value.errno, caught.value.path) == (errno.ENOSPC, path)
            assert journal.finished == [str(i) for i in range(room // line)]
            assert rows_of(path) == rows[: room // line]
            journal._file.room = 1000
            journal.append(rows[journal.rows :])
        assert rows_of(path) == rows


def test_an_interrupt_inside_a_row_leaves_whole_rows(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonlJournal(path) as journal:
        journal._file = Failing(journal._file, 15, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            journal.append([{"id": 0}, {"id": 1}])
        assert journal.finished == ["0"]
    assert rows_of(path) == [{"id": 0}]


def test_a_torn_row_that_cannot_be_cut_is_never_written_after(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    journal = JsonlJournal(path)
    failing = Failing(journal._file, 15, OSError(errno.EIO, "Input/output error"))
    journal._file = failing
    failing.truncate = lambda size: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OutputError):
        journal.append([{"id": 0}, {"id": 1}])
    failing.room = 1000
    with pytest.raises(OutputError, match="closed"):
        journal.append([{"id": 1}])
    with JsonlJournal(path) as again:
        assert again.finished == ["0"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"id": 1}\nnothing\n{"id": 2}\n', "a.jsonl:2: not a finished row"),
        (b'{"id": 1}\n{"name": 2}\n', "a.jsonl:2: not a finished row of this output: `id` of each row"),
        (b'{"id": 1}\n[1]\n', "a.jsonl:2: .* a row must be an object"),
        (b'{"id": 1}\n\xff\n', "a.jsonl:2: not a finished row"),
    ],
)
def test_a_file_that_is_something_else_is_left_alone(tmp_path, content, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidData, match=message):
        JsonlJournal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "bad", [{}, {"id": None}, {"id": 1.5}, {"id": True}, {"id": 3, "x": float("nan")}, {"id": 3, "x": {1}}]
)
def test_a_bad_row_keeps_the_others_of_its_call_out(tmp_path, bad):
    path = tmp_path / "a.jsonl"
    with JsonlJournal(path) as journal:
        journal.append([{"id": 1}])
        with pytest.raises(InvalidInput):
            journal.append([{"id": 2}, bad])
        assert journal.finished == ["1"]
    assert rows_of(path) == [{"id": 1}]


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_two_writers_are_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    with JsonlJournal(path), pytest.raises(InvalidInput, match="another process"):
        JsonlJournal(path)
    JsonlJournal(path).close()


def test_paths_that_cannot_be_continued(tmp_path):
    with pytest.raises(InvalidInput, match="gzip"):
        JsonlJournal(tmp_path / "a.jsonl.gz")
    with pytest.raises(OutputError, match="no such file or directory"):
        JsonlJournal(tmp_path / "none" / "a.jsonl")
    with pytest.raises(OutputError, match="not a plain file"):
        JsonlJournal(tmp_path)
    if Path("/dev/full").exists():
        with pytest.raises(OutputError, match="not a plain file"):
            JsonlJournal("/dev/full")


def test_closing_twice_does_no_harm(tmp_path):
    journal = JsonlJournal(tmp_path / "a.jsonl")
    journal.close()
    journal.close()
    with pytest.raises(OutputError, match="closed"):
        journal.append([{"id": 1}])
