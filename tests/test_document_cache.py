"""The document cache: what it keeps, how it is bounded, and that nothing it loses or breaks changes a grade."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.errors import InvalidInput, OutputError
from relgrade.grade.document_cache import DocumentCache, document_key, space_of
from relgrade.grade.document_states import DamagedRecord, DocumentStates
from relgrade.grade.document_store import FILE_NAME, DocumentStore, Row, StoreFailed

SPACE = space_of(encoder_sha256="e", tokenizer_sha256="t", template="{}", states_format="f")
LIMIT = 1_000_000


def states(seed=0, *, n_tokens=30, n_hidden=16, n_windows=2):
    rng = np.random.default_rng(seed)
    return DocumentStates.quantise(
        rng.integers(0, 60, n_tokens),
        rng.normal(size=(n_tokens, n_hidden)).astype(np.float32),
        rng.normal(size=(n_windows, n_hidden)).astype(np.float32),
        truncated=bool(seed % 2),
    )


def same(one, other):
    return one.to_bytes() == other.to_bytes()


def rows(numbers, *, size=20_000):
    return [Row(number.to_bytes(20, "big"), bytes([number % 251]) * size, 5) for number in numbers]


def keys(numbers):
    return [number.to_bytes(20, "big") for number in numbers]


def run_child(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@given(
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(1, 4),
    st.floats(1e-6, 1e6),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_a_record_keeps_ids_windows_and_states_to_half_a_code(n_tokens, n_hidden, n_windows, size, cut, seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 2**31 - 1, n_tokens)
    read = (rng.normal(size=(n_tokens, n_hidden)) * size).astype(np.float32)
    read[rng.random(n_tokens) < 0.2] = 0.0
    vectors = rng.normal(size=(n_windows, n_hidden)).astype(np.float32)
    kept = DocumentStates.from_bytes(DocumentStates.quantise(ids, read, vectors, truncated=cut).to_bytes())
    assert kept.ids.tolist() == ids.tolist()
    assert kept.vectors.tolist() == vectors.tolist()
    assert kept.truncated == cut
    allowed = np.abs(read).max(axis=1, keepdims=True) / 127 * 0.5001
    assert (np.abs(kept.states - read) <= allowed + 1e-30).all()


def test_states_that_are_not_finite_stay_so_and_are_never_remembered():
    read = np.ones((3, 4), np.float32)
    read[1, 2] = np.nan
    kept = DocumentStates.quantise(np.arange(3), read, np.ones((1, 4), np.float32), truncated=False)
    assert not kept.is_finite
    assert np.isnan(kept.states[1]).all()
    assert np.isfinite(kept.states[[0, 2]]).all()
    cache = DocumentCache()
    cache.put(SPACE, {"a": kept})
    assert cache.get(SPACE, ["a"]) == {}


@given(st.data())
def test_any_changed_or_missing_byte_of_a_record_is_found(data):
    record = states(1, n_tokens=3, n_hidden=4).to_bytes()
    position = data.draw(st.integers(0, len(record) - 1))
    if 21 <= position < 24:  # padding of the header says nothing
        return
    changed = bytearray(record)
    changed[position] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(changed), record[:position], record + b"x"):
        with pytest.raises(DamagedRecord):
            DocumentStates.from_bytes(damaged)


def test_the_key_names_text_and_all_that_decides_its_states():
    parts = {"encoder_sha256": "a", "tokenizer_sha256": "b", "template": "c", "states_format": "d"}
    spaces = {space_of(**parts), *(space_of(**{**parts, name: "x"}) for name in parts)}
    assert len({document_key(space, text) for space in spaces for text in ("one", "two")}) == 10


def test_memory_keeps_to_its_bound_and_pushes_out_what_was_used_longest_ago():
    size = states().n_bytes
    cache = DocumentCache(memory_bytes=3 * size)
    for name in "abc":
        cache.put(SPACE, {name: states()})
    cache.get(SPACE, ["a"])
    cache.put(SPACE, {"d": states()})
    assert set(cache.get(SPACE, "abcd")) == {"a", "c", "d"}
    assert cache.stats.n_bytes == 3 * size
    assert cache.stats.bytes_per_document == size
    assert (cache.stats.n_memory_hits, cache.stats.n_misses) == (4, 1)
    assert cache.stats.hit_ratio == pytest.approx(0.8)


def test_a_folder_outlives_the_cache_and_belongs_to_its_owner(tmp_path):
    first = DocumentCache(tmp_path / "c")
    first.put(SPACE, {"a": states(1), "b": states(2)})
    first.close()
    second = DocumentCache(tmp_path / "c", memory_bytes=0)
    found = second.get(SPACE, ["a", "b", "c"])
    assert same(found["a"], states(1))
    assert same(found["b"], states(2))
    assert (second.stats.n_disk_hits, second.stats.n_misses, second.stats.n_documents) == (2, 1, 0)
    assert second.get("00" * 32, ["a"]) == {}, "another bundle has other documents"
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == 0o700
    for file in (tmp_path / "c").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_the_folder_keeps_to_its_bound_and_pushes_out_what_was_used_longest_ago(tmp_path):
    store = DocumentStore(tmp_path, limit_bytes=LIMIT)
    store.put(rows(range(30)))
    store.get(keys([0, 1]))
    for number in range(30, 100):
        assert store.put(rows([number]))
        store.get(keys([0, 1]))
        assert store.info().n_bytes <= LIMIT
    found = store.get(keys(range(100)))
    assert set(keys([0, 1, 98, 99])) <= set(found)
    assert len(found) > 30
    assert not set(keys(range(2, 50))) & set(found)
    store.close()
    assert store.path.stat().st_size <= LIMIT * 1.1
    assert DocumentStore(tmp_path).limit_bytes == LIMIT, "the bound belongs to the folder"


def test_a_lower_bound_shrinks_the_folder(tmp_path):
    store = DocumentStore(tmp_path, limit_bytes=3 * LIMIT)
    store.put(rows(range(120)))
    store.close()
    store = DocumentStore(tmp_path, limit_bytes=LIMIT)
    assert store.info().n_bytes <= LIMIT
    store.close()
    assert store.path.stat().st_size <= 1.1 * LIMIT


def test_what_is_used_from_a_mark_on_is_not_pushed_out(tmp_path):
    store = DocumentStore(tmp_path, limit_bytes=LIMIT)
    assert store.put(rows(range(20)))
    mark = store.now()
    assert store.touch(keys([3, 777])) == [True, False]
    stored = [store.put(rows([number]), keep_from=mark) for number in range(100, 160)]
    assert stored.index(False) > 30
    assert not any(stored[stored.index(False) :])
    assert list(store.get(keys([3, 4]))) == keys([3])
    assert store.info().n_bytes <= LIMIT


def test_a_damaged_record_is_a_miss_that_is_told_and_taken_out(tmp_path, caplog):
    cache = DocumentCache(tmp_path, memory_bytes=0)
    cache.put(SPACE, {"a": states(1, n_tokens=200), "b": states(2)})
    cache.close()
    marker = states(1, n_tokens=200).codes.tobytes()[1000:1040]
    content = bytearray((tmp_path / FILE_NAME).read_bytes())
    content[content.index(marker) + 5] ^= 1
    (tmp_path / FILE_NAME).write_bytes(content)
    assert set(cache.get(SPACE, ["a", "b"])) == {"b"}
    assert cache.stats.n_damaged == 1
    assert "checksum" in caplog.text
    cache.put(SPACE, {"a": states(1, n_tokens=200)})
    assert set(cache.get(SPACE, ["a", "b"])) == {"a", "b"}


@pytest.mark.parametrize("content", [b"no database " * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_file_that_is_damaged_through_and_through_is_begun_again(tmp_path, caplog, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    cache = DocumentCache(tmp_path, memory_bytes=0)
    assert "begins again" in caplog.text
    cache.put(SPACE, {"a": states(1)})
    assert set(cache.get(SPACE, ["a"])) == {"a"}


def test_a_file_that_loses_its_end_costs_documents_and_nothing_else(tmp_path, caplog):
    cache = DocumentCache(tmp_path, memory_bytes=0)
    cache.put(SPACE, {str(i): states(i, n_tokens=400) for i in range(20)})
    cache.close()
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    again = DocumentCache(tmp_path, memory_bytes=0)
    for i in range(20):
        found = again.get(SPACE, [str(i)])
        assert all(same(each, states(i, n_tokens=400)) for each in found.values())
    assert caplog.text


def test_a_deleted_folder_is_made_again_after_a_while(tmp_path, caplog, monkeypatch):
    import shutil

    from relgrade.grade import document_cache

    monkeypatch.setattr(document_cache, "RETRY_S", 0.0)
    folder = tmp_path / "c"
    cache = DocumentCache(folder, memory_bytes=0)
    cache.put(SPACE, {"a": states(1)})
    shutil.rmtree(folder)
    for number in range(4):
        cache.put(SPACE, {str(number): states(number)})
        cache.get(SPACE, [str(number)])
    cache.close()
    cache.put(SPACE, {"z": states(3)})
    assert same(cache.get(SPACE, ["z"])["z"], states(3))
    assert folder.is_dir()


def test_a_full_disk_leaves_the_cache_out_and_is_told_once(tmp_path):
    code = """
        import logging, resource, signal, sys
        sys.path.insert(0, sys.argv[2])
        from tests.test_document_cache import SPACE, same, states
        from relgrade.grade.document_cache import DocumentCache
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        cache = DocumentCache(sys.argv[1])
        cache.put(SPACE, {"early": states(1)})
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        for i in range(12):
            cache.put(SPACE, {str(i): states(i, n_tokens=3000)})
        assert same(cache.get(SPACE, ["7"])["7"], states(7, n_tokens=3000))
        print("alive")
    """
    child = run_child(code, tmp_path / "c", Path.cwd())
    told, _ = child.communicate(timeout=240)
    assert child.returncode == 0
    assert told.count("is left out") == 1
    assert told.endswith("alive\n")
    again = DocumentCache(tmp_path / "c")
    assert same(again.get(SPACE, ["early"])["early"], states(1))


def test_a_folder_that_nobody_can_write_is_read(tmp_path, monkeypatch):
    cache = DocumentCache(tmp_path)
    cache.put(SPACE, {"a": states(1)})
    cache.close()
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))
    fixed = DocumentCache(tmp_path, memory_bytes=0)
    assert same(fixed.get(SPACE, ["a"])["a"], states(1))
    fixed.put(SPACE, {"b": states(2)})
    assert fixed.get(SPACE, ["b"]) == {}


def test_a_killed_writer_leaves_whole_documents(tmp_path):
    code = """
        import sys
        from relgrade.grade.document_store import DocumentStore, Row
        store = DocumentStore(sys.argv[1], limit_bytes=4_000_000)
        number = 0
        while True:
            rows = [Row((number + i).to_bytes(20, "big"), bytes([(number + i) % 251]) * 20_000, 5) for i in range(10)]
            store.put(rows)
            number += 10
            print(number, flush=True)
    """
    for n_reports in (1, 7, 40):
        child = run_child(code, tmp_path)
        for _ in range(n_reports):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.communicate(timeout=240)
        store = DocumentStore(tmp_path)
        found = store.get(keys(range(500)))
        assert len(found) >= min(10 * n_reports, 100)
        for key, record in found.items():
            assert record == bytes([int.from_bytes(key, "big") % 251]) * 20_000
        assert store.info().n_bytes <= 4_000_000
        store.close()


def test_two_processes_write_and_read_the_same_folder(tmp_path):
    code = """
        import sys
        from relgrade.grade.document_store import DocumentStore, Row
        store, own = DocumentStore(sys.argv[1]), int(sys.argv[2])
        print("open", flush=True)
        sys.stdin.readline()
        for number in range(own, 60 + own):  # most of them both write
            store.put([Row(number.to_bytes(20, "big"), bytes([number]) * 20_000, 5)])
            found = store.get([each.to_bytes(20, "big") for each in range(70)])
            assert all(record == bytes([int.from_bytes(key, "big")]) * 20_000 for key, record in found.items())
        store.close()
    """
    children = [run_child(code, tmp_path, own) for own in (0, 10)]
    for child in children:
        assert child.stdout.readline() == "open\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=240)
        assert child.returncode == 0
    info = DocumentStore(tmp_path).info()
    assert info.n_documents == 70
    assert info.n_tokens == 350


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_the_folder_for_itself(tmp_path):
    code = """
        import os, sys
        from relgrade.grade.document_store import DocumentStore, Row
        store = DocumentStore(sys.argv[1])
        store.put([Row(b"a" * 20, b"1" * 100, 5)])
        child = os.fork()
        if child == 0:
            store.put([Row(b"b" * 20, b"2" * 100, 5)])
            store.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(store.get([b"a" * 20, b"b" * 20])) == 2
    """
    child = run_child(code, tmp_path)
    child.communicate(timeout=240)
    assert child.returncode == 0


def test_clear_gives_the_space_back_under_a_reader(tmp_path):
    reader, other = DocumentStore(tmp_path), DocumentStore(tmp_path)
    reader.put(rows(range(40)))
    assert len(reader.get(keys(range(40)))) == 40
    other.clear()
    assert reader.get(keys(range(40))) == {}
    assert other.info().n_documents == 0
    assert other.path.stat().st_size < 200_000
    reader.put(rows([1]))
    assert list(other.get(keys([1]))) == keys([1])


def test_info_counts_what_was_looked_up_by_all(tmp_path):
    one, two = DocumentStore(tmp_path), DocumentStore(tmp_path)
    assert one.info().hit_ratio is None
    one.put(rows([1, 2]))
    one.get(keys([1, 2, 3]))
    two.get(keys([1]))
    one.close()
    info = two.info()
    assert (info.n_hits, info.n_lookups, info.n_documents, info.n_tokens) == (3, 4, 2, 10)
    assert info.hit_ratio == 0.75
    assert info.bytes_per_document > 20_000


@pytest.mark.parametrize("bad", [{"memory_bytes": -1}, {"memory_bytes": 0}, {"disk_bytes": 5_000_000}])
def test_bounds_that_make_no_sense_are_refused(bad):
    with pytest.raises(InvalidInput):
        DocumentCache(**bad)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        DocumentCache(tmp_path / "file")
    with pytest.raises(InvalidInput):
        DocumentStore(tmp_path / "c", limit_bytes=10)


def test_a_store_says_what_failed(tmp_path):
    store = DocumentStore(tmp_path)
    store._connection.execute("DROP TABLE documents")
    with pytest.raises(StoreFailed, match="documents"):
        store.get(keys([1]))
