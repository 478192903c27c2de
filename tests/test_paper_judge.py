"""A judge behind a server is a row: its unparsed replies are a third state, and it is paid once."""

from fake_teacher import FakeTeacher, Reply, completion, document_of
from paper_case import settings_of, write_data
from relgrade.paper.table import read_results, run_rows


def table_of(folder, url):
    row = {"name": "judge", "method": "judge", "url": url, "model": "tiny-70b"}
    return settings_of(write_data(folder), "unused", [row])


def test_a_judge_is_asked_once_and_counted_in_both_ways(tmp_path):
    n_asked = 0

    def script(request, path):
        nonlocal n_asked
        n_asked += 1
        words = document_of(request).split()
        return Reply(body=completion("I would rather not say" if len(words) % 2 else "PASS"))

    with FakeTeacher(script) as teacher:
        table = table_of(tmp_path, teacher.url)
        (path,) = run_rows(table, output=tmp_path / "run", results=tmp_path / "results")
        path.unlink()  # the row is lost, its journal is not
        (path,) = run_rows(table, output=tmp_path / "run", results=tmp_path / "results")
    (row,) = read_results([path])
    found = {reading["rule"]: reading for reading in row["readings"]}
    # Relevant documents have eight words, the others seven: those are the ones it does not judge.
    assert found["replies that parse"]["precision"]["value"] == 1.0
    assert found["replies that parse"]["n_pairs"] == 12
    assert found["unparsed as FAIL"]["n_unparsed"] == 28
    assert found["unparsed as FAIL"]["accuracy"]["value"] == 1.0
    assert "argmax" not in found  # words alone: there is no probability to read
    assert n_asked == 40
    assert row["cost"]["n_parameters"] is None
