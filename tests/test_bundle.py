import hashlib
import io
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import GOLDENS, fake_bundle, fake_files, fake_manifest
from relgrade.bundle import GoldenPair, Manifest, goldens_to_bytes, load_bundle, store, write_bundle
from relgrade.bundle.goldens import goldens_from_bytes
from relgrade.bundle.safety import require_safe_content
from relgrade.errors import BundleCorrupt, BundleIncomplete, BundleTooNew, InvalidInput, OutputError, UnsafeBundle
from relgrade.records import Calibration, OperatingPoint

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def bundle(tmp_path):
    return fake_bundle(tmp_path / "b")


def rewrite_manifest(bundle, change):
    path = bundle.folder / "bundle.json"
    data = json.loads(path.read_bytes())
    change(data)
    path.write_text(json.dumps(data))


def array_bytes(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def zip_bytes(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_what_is_written_is_what_is_loaded(bundle):
    loaded = load_bundle(str(bundle.folder))
    assert loaded.manifest == bundle.manifest
    assert loaded.hash == bundle.hash
    assert len(bundle.hash) == 64
    assert sorted(loaded.manifest.files) == [
        "LICENSE",
        "README.md",
        "goldens.jsonl",
        "model.int8.onnx",
        "tokenizer.json",
    ]
    assert loaded.read_bytes("tokenizer.json") == b"{}"
    assert loaded.path("LICENSE") == bundle.folder / "LICENSE"
    assert [(golden.query, golden.document) for golden in loaded.goldens] == list(GOLDENS)
    with pytest.raises(BundleIncomplete, match=r"no file 'x.onnx'; it has: LICENSE"):
        loaded.path("x.onnx")


def test_the_same_bundle_has_the_same_bytes_whatever_the_order(tmp_path, bundle):
    again = write_bundle(tmp_path / "c", fake_manifest(), dict(reversed(fake_files().items())))
    assert again.hash == bundle.hash
    assert (again.folder / "README.md").read_bytes() == (bundle.folder / "README.md").read_bytes()


def test_the_order_of_keys_does_not_count():
    one = fake_manifest(provenance={"a": 1, "b": {"c": 2, "d": 3}}, graphs={"x": "1", "y": "2"})
    other = fake_manifest(provenance={"b": {"d": 3, "c": 2}, "a": 1}, graphs={"y": "2", "x": "1"})
    assert one.to_bytes() == other.to_bytes()


def test_files_are_copied_from_paths(tmp_path, bundle):
    (tmp_path / "graph").write_bytes(b"\x08\x07graph")
    files = {**fake_files(), "model.int8.onnx": tmp_path / "graph"}
    assert write_bundle(tmp_path / "c", fake_manifest(), files).hash == bundle.hash


@pytest.mark.parametrize("name", ["LICENSE", "README.md", "goldens.jsonl", "model.int8.onnx", "tokenizer.json"])
def test_one_changed_byte_is_named(bundle, name):
    path = bundle.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleCorrupt, match=rf"{name}: expected sha256 [0-9a-f]{{64}}, found [0-9a-f]{{64}}"):
        load_bundle(bundle.folder)


def test_a_cut_file_says_both_sizes(bundle):
    (bundle.folder / "tokenizer.json").write_bytes(b"{")
    with pytest.raises(BundleCorrupt, match=r"tokenizer.json: expected 2 bytes, found 1"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["bundle.json", "goldens.jsonl", "model.int8.onnx"])
def test_a_missing_file_is_named(bundle, name):
    (bundle.folder / name).unlink()
    with pytest.raises(BundleIncomplete, match=name):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["nowhere", "a" * 300])
def test_no_folder_at_all(tmp_path, name):
    with pytest.raises(BundleIncomplete, match="no such folder"):
        load_bundle(tmp_path / name)


def test_a_newer_schema_says_upgrade_even_when_all_else_changed(bundle):
    (bundle.folder / "bundle.json").write_text('{"schema_version": 2, "novelty": []}')
    with pytest.raises(BundleTooNew, match="schema 2, this relgrade reads up to 1; run: pip install --upgrade"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("rubric"), r"lacks the fields \['rubric'\]"),
        (lambda data: data.pop("options"), r"lacks the fields \['options'\]"),
        (lambda data: data.update(extra=1), r"unknown fields \['extra'\]"),
        (lambda data: data.update(schema_version="1"), "schema_version"),
        (lambda data: data.update(schema_version=True), "schema_version"),
        (lambda data: data.update(activation="softmax"), "activation must be 'sigmoid'"),
        (lambda data: data.update(default_point="none"), "default_point 'none' is none of"),
        (lambda data: data.update(operating_points={}), "operating_points must be a list"),
        (lambda data: data.update(operating_points=[]), "needs an operating point"),
        (lambda data: data["operating_points"][0].update(threshold=1.5), "threshold"),
        (lambda data: data["operating_points"][0].update(threshold="0.5"), "must be a finite number"),
        (lambda data: data["operating_points"][0].update(name=3), "name must be a string"),
        (lambda data: data["operating_points"][1].update(name="balanced"), "two operating points"),
        (lambda data: data["calibration"].update(slope=-1), "slope > 0"),
        (lambda data: data["calibration"].update(slope=10**400), "must be a finite number"),
        (lambda data: data["calibration"].update(evidence=[]), "must be a JSON object"),
        (lambda data: data.update(graphs={}), "graphs must map"),
        (lambda data: data.update(graphs={"model": 7}), "graphs.model"),
        (lambda data: data.update(template=[]), "template must be a JSON object"),
        (lambda data: data["files"]["LICENSE"].update(sha256="AB"), "sha256"),
        (lambda data: data["files"]["LICENSE"].update(size=-1), "size"),
        (lambda data: data.update(name=" "), "name must be a string that is not empty"),
    ],
)
def test_a_manifest_is_read_strictly(bundle, change, message):
    rewrite_manifest(bundle, change)
    with pytest.raises(BundleCorrupt, match=message):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"schema_version": NaN}',
        b'{"schema_version": 1, "schema_version": 1}',
        b"[" * 99999,
    ],
)
def test_a_manifest_that_is_no_json_object(bundle, content):
    (bundle.folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleCorrupt):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "goldens.jsonl", "model.int8.onnx"])
def test_what_a_bundle_needs_must_be_listed(bundle, tmp_path, name):
    files = fake_files()
    del files[name]
    with pytest.raises(BundleIncomplete, match=name):
        write_bundle(tmp_path / "c", fake_manifest(), files)
    rewrite_manifest(bundle, lambda data: data["files"].pop(name))
    with pytest.raises(BundleIncomplete, match=f"does not list '{name}'"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../x.json",
        "a/../../x.json",
        "a//b",
        "",
        ".hidden",
        "a\\b",
        "C:x",
        "con.txt",
        "x.",
        "a b",
        "*",
        "é",
        "x\n",
    ],
)
def test_a_name_never_leads_out_of_the_folder(bundle, tmp_path, name):
    with pytest.raises(UnsafeBundle, match="is no name for a file of a bundle"):
        write_bundle(tmp_path / "c", fake_manifest(), {**fake_files(), name: b"x"})
    rewrite_manifest(bundle, lambda data: data["files"].update({name: data["files"]["LICENSE"]}))
    with pytest.raises(UnsafeBundle, match="is no name for a file of a bundle"):
        load_bundle(bundle.folder)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("name", ["w.pkl", "w.PT", "pytorch_model.bin", "w.pth.json", "w.joblib", "sub/run.py", "x.so"])
def test_pickle_and_code_are_refused_by_name(bundle, tmp_path, name):
    with pytest.raises(UnsafeBundle, match=r"pickled code|files are code"):
        write_bundle(tmp_path / "c", fake_manifest(), {**fake_files(), name: b"x"})
    (bundle.folder / name).parent.mkdir(exist_ok=True)
    (bundle.folder / name).write_bytes(b"x")
    with pytest.raises(UnsafeBundle, match=r"pickled code|files are code"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps({"a": print}, protocol=protocol) for protocol in range(6)),
        zip_bytes({"archive/data.pkl": pickle.dumps(1)}),
        zip_bytes({"a.npy": array_bytes(np.array([print]), allow_pickle=True)}),
        b"some bytes before" + zip_bytes({"data.pkl": b"x"}),
        array_bytes(np.array([{}]), allow_pickle=True),
        b"\x93NUMPY\x01\x00\xff\xffbroken",
        b"\x7fELF\x02",
        b"MZ\x90",
        b"#!/bin/sh\n",
    ],
)
def test_pickle_and_code_are_refused_by_content(bundle, tmp_path, content):
    with pytest.raises(UnsafeBundle, match="holds"):
        write_bundle(tmp_path / "c", fake_manifest(), {**fake_files(), "weights.dat": content})
    assert names_in(tmp_path) == ["b"]
    (bundle.folder / "weights.dat").write_bytes(content)
    with pytest.raises(UnsafeBundle, match=r"weights\.dat: holds"):
        load_bundle(bundle.folder)


def test_a_listed_pickle_is_refused_though_its_hash_is_right(bundle):
    content = pickle.dumps([1])
    entry = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (bundle.folder / "weights.dat").write_bytes(content)
    rewrite_manifest(bundle, lambda data: data["files"].update({"weights.dat": entry}))
    with pytest.raises(UnsafeBundle, match=r"weights\.dat: holds a pickle"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b".",
        b"(",
        b"cat\ndog\n",
        b"\x80\x02\x00\x00\x00\x00\x00\x00{",  # safetensors: a header of 640 bytes
        b"\x08\x07",
        array_bytes(np.arange(3.0)),
        array_bytes(np.zeros(2, dtype=[("a", "<f4"), ("b", "<U3")])),
        zip_bytes({"a.npy": array_bytes(np.arange(3))}),
        json.dumps({"model": {"vocab": {"a": 0}}}).encode(),
    ],
)
def test_data_is_let_through(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    require_safe_content("x", tmp_path / "x")


def test_a_link_is_not_copied(tmp_path):
    (tmp_path / "secret").write_text("s")
    (tmp_path / "link").symlink_to("secret")
    with pytest.raises(UnsafeBundle, match="is a link"):
        write_bundle(tmp_path / "c", fake_manifest(), {**fake_files(), "a.txt": tmp_path / "link"})


def test_a_listed_link_counts_by_its_bytes(bundle, tmp_path):
    """Download caches are folders of links."""
    path = bundle.folder / "tokenizer.json"
    shutil.move(path, tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")
    assert load_bundle(bundle.folder).hash == bundle.hash
    (tmp_path / "blob").write_bytes(b"[]")
    with pytest.raises(BundleCorrupt, match=r"tokenizer.json"):
        load_bundle(bundle.folder)
    (tmp_path / "blob").unlink()
    with pytest.raises(BundleIncomplete, match=r"tokenizer.json"):
        load_bundle(bundle.folder)


@pytest.mark.parametrize("target", ["/etc/hostname", "..", "nowhere"])
def test_an_unlisted_link_is_refused(bundle, target):
    (bundle.folder / "more").symlink_to(target)
    with pytest.raises(UnsafeBundle, match="a link or device"):
        load_bundle(bundle.folder)


def test_a_pipe_is_refused_and_not_read(bundle):
    (bundle.folder / "LICENSE").unlink()
    os.mkfifo(bundle.folder / "LICENSE")
    with pytest.raises(UnsafeBundle, match="a regular file was expected"):
        load_bundle(bundle.folder)


def test_harmless_company_is_ignored(bundle):
    (bundle.folder / "my notes.txt").write_text("hello")
    (bundle.folder / ".git").mkdir()
    (bundle.folder / ".git" / "hook").write_text("#!/bin/sh")
    assert load_bundle(bundle.folder).hash == bundle.hash


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nope",
        b"[1]",
        b'{"query": "a", "document": "b"}',
        b'{"query": "a", "document": "b", "logit": 1, "more": 2}',
        b'{"query": "a", "document": "b", "logit": "1"}',
        b'{"query": "a", "document": "b", "logit": true}',
        b'{"query": "a", "document": "b", "logit": NaN}',
        b'{"query": "a", "document": "b", "logit": 1e999}',
        b'{"query": null, "document": "b", "logit": 1}',
    ],
)
def test_goldens_have_a_shape(tmp_path, line):
    with pytest.raises(BundleCorrupt, match=r"goldens.jsonl"):
        write_bundle(tmp_path / "c", fake_manifest(), {**fake_files(), "goldens.jsonl": line})
    assert names_in(tmp_path) == []


@given(st.lists(st.tuples(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False)), min_size=1))
def test_goldens_come_back_as_written(rows):
    goldens = tuple(GoldenPair(*row) for row in rows)
    assert goldens_from_bytes(goldens_to_bytes(goldens)) == goldens


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=3), st.text(), st.floats(0, 1), st.floats(1e-9, 1e9))
def test_a_manifest_comes_back_as_written(values, text, threshold, slope):
    manifest = fake_manifest(
        provenance=values,
        options=values,
        description=text,
        calibration=Calibration("platt", slope, -1.0, values),
        operating_points=(OperatingPoint("balanced", threshold, values),),
    )
    again = Manifest.from_bytes(manifest.to_bytes())
    assert again == manifest
    assert again.to_bytes() == manifest.to_bytes()


@pytest.mark.parametrize("value", [float("nan"), np.float32(1), {1: 2}, {1, 2}, b"x", object()])
def test_provenance_must_be_json(value):
    with pytest.raises(InvalidInput, match=r"provenance\.a"):
        fake_manifest(provenance={"a": value})


def test_a_manifest_does_not_change_with_the_callers_mapping():
    options = {"a": [1]}
    manifest = fake_manifest(options=options)
    options["a"].append(2)
    assert manifest.options == {"a": [1]}


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch, name):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(*((os, "fsync") if name == "fsync" else (store.Path, "rename")), interrupt)
    with pytest.raises(KeyboardInterrupt):
        fake_bundle(tmp_path / "b")
    assert names_in(tmp_path) == []


def test_a_full_disk_leaves_the_earlier_bundle(bundle, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="cannot be written: no space left on device; what stood there before is"):
        write_bundle(bundle.folder, fake_manifest(name="other"), fake_files(), overwrite=True)
    assert load_bundle(bundle.folder).hash == bundle.hash


def test_a_write_can_be_repeated_and_replaces_only_when_told(bundle):
    assert fake_bundle(bundle.folder).hash == bundle.hash
    with pytest.raises(InvalidInput, match="holds another bundle"):
        fake_bundle(bundle.folder, name="other")
    assert load_bundle(bundle.folder).hash == bundle.hash
    replaced = write_bundle(bundle.folder, fake_manifest(name="other"), fake_files(), overwrite=True)
    assert load_bundle(bundle.folder).hash == replaced.hash != bundle.hash
    assert names_in(bundle.folder.parent) == ["b"]


def test_other_files_are_never_written_over(tmp_path):
    (tmp_path / "b").mkdir()
    fake_bundle(tmp_path / "b")  # an empty folder is as good as none
    shutil.rmtree(tmp_path / "b")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match="no bundle"):
        write_bundle(tmp_path / "b", fake_manifest(), fake_files(), overwrite=True)
    with pytest.raises(InvalidInput, match="not a folder"):
        fake_bundle(tmp_path / "b" / "thesis.txt")
    assert names_in(tmp_path / "b") == ["thesis.txt"]


@pytest.mark.parametrize(
    ("files", "message"),
    [({"bundle.json": b"{}"}, "leave it out"), ({"license": b""}, "one file"), ({"a": "text"}, "a Path or bytes")],
)
def test_files_that_cannot_be_written(tmp_path, files, message):
    with pytest.raises(InvalidInput, match=message):
        write_bundle(tmp_path / "c", fake_manifest(), {**fake_files(), **files})
