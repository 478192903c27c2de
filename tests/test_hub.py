"""The Hub's client is replaced by one that serves a folder the way the real one does: a cache of links, by commit."""

import builtins
import importlib
import sys
from fnmatch import fnmatch
from types import ModuleType, SimpleNamespace

import pytest

from fake_runtime import FakeRuntime, fake_bundle
from relgrade.errors import BundleCorrupt, BundleError, BundleIncomplete, InvalidInput, MissingExtra, UnsafeBundle
from relgrade.grade import hub
from relgrade.grade.grader import Grader, open_bundle
from relgrade.grade.runtimes import RUNTIMES
from relgrade.serve import load_bundle_and_runtime

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fake_errors():
    """The tree of huggingface_hub.errors, as far as it is told apart."""
    http = type("HfHubHTTPError", (OSError,), {})
    missing = type("RepositoryNotFoundError", (http,), {})
    return {
        "HfHubHTTPError": http,
        "RepositoryNotFoundError": missing,
        "GatedRepoError": type("GatedRepoError", (missing,), {}),
        "RevisionNotFoundError": type("RevisionNotFoundError", (http,), {}),
        "LocalEntryNotFoundError": type("LocalEntryNotFoundError", (FileNotFoundError,), {}),
        "OfflineModeIsEnabled": type("OfflineModeIsEnabled", (ConnectionError,), {}),
    }


class FakeHub:
    def __init__(self, folder, cache):
        self.folder, self.cache = folder, cache
        self.calls = []
        self.error = None

    def snapshot_download(self, repo_id, *, revision, allow_patterns):
        self.calls.append((repo_id, revision, list(allow_patterns)))
        if self.error is not None:
            raise self.error
        snapshot = self.cache / "snapshots" / revision
        snapshot.mkdir(parents=True, exist_ok=True)
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and any(fnmatch(name, pattern) for pattern in allow_patterns):
                (snapshot / name).parent.mkdir(exist_ok=True)
                if not (snapshot / name).exists():
                    (snapshot / name).symlink_to(path)
        return str(snapshot)


@pytest.fixture
def client(tmp_path, monkeypatch):
    folder = fake_bundle(tmp_path / "remote").folder
    fake = FakeHub(folder, tmp_path / "cache")
    package, errors = ModuleType("huggingface_hub"), ModuleType("huggingface_hub.errors")
    vars(errors).update(fake_errors())
    vars(package).update(snapshot_download=fake.snapshot_download, errors=errors)
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.setitem(RUNTIMES, "cross-encoder", ("fake_runtime", "FakeRuntime"))
    monkeypatch.chdir(tmp_path)
    fake.errors = errors
    return fake


def test_a_pinned_commit_is_loaded_from_the_cache_of_links(client):
    (client.folder / "pytorch_model.bin").write_bytes(b"pickle")  # in the repository, not in the manifest
    grader = Grader.load("organisation/name", revision=COMMIT)
    assert isinstance(grader._runtime, FakeRuntime)
    assert len(grader.grade("q", ["a", "b"])) == 2
    (first_id, first_revision, first), (_, _, second) = client.calls
    assert (first_id, first_revision, first) == ("organisation/name", COMMIT, ["bundle.json"])
    assert sorted(second) == sorted(["bundle.json", *grader.bundle.manifest.files])
    assert not (grader.bundle.folder / "pytorch_model.bin").exists()


@pytest.mark.parametrize("revision", [None, "main", "v1.0", COMMIT[:12], COMMIT.upper(), "", 7])
def test_only_a_whole_commit_hash_is_a_pin(client, revision):
    both_ways = r"needs the 40 hexadecimal digits of a commit, as organisation/name@COMMIT or as revision=COMMIT"
    with pytest.raises(InvalidInput, match=both_ways):
        hub.fetch_bundle("organisation/name", revision=revision)
    with pytest.raises(InvalidInput, match=both_ways):
        Grader.load(f"organisation/name@{revision}")
    assert client.calls == []


def test_the_commit_may_stand_in_the_id(client):
    pinned = f"organisation/name@{COMMIT}"
    grader = Grader.load(pinned)
    assert load_bundle_and_runtime(pinned)[0].hash == open_bundle(pinned).hash == grader.bundle.hash
    assert {call[:2] for call in client.calls} == {("organisation/name", COMMIT)}


@pytest.mark.parametrize("beside", [COMMIT, "main", ""])
def test_a_commit_in_the_id_and_one_beside_it_are_refused(client, beside):
    with pytest.raises(InvalidInput, match="leave one out"):
        Grader.load(f"organisation/name@{COMMIT}", revision=beside)
    assert client.calls == []


def test_a_folder_named_like_a_pinned_id_goes_first(client, tmp_path):
    fake_bundle(tmp_path / "organisation" / "name@1")
    assert Grader.load("organisation/name@1").bundle.folder.name == "name@1"
    assert client.calls == []


def test_a_folder_goes_before_a_hub_id(client, tmp_path):
    fake_bundle(tmp_path / "organisation" / "name")
    assert Grader.load("organisation/name").bundle.folder.name == "name"
    assert client.calls == []


def test_what_the_hub_delivers_is_checked(client):
    (client.folder / "tokenizer.json").write_bytes(b"[]")
    with pytest.raises(BundleCorrupt, match=r"tokenizer\.json"):
        Grader.load("organisation/name", revision=COMMIT)


def test_an_interrupted_download_is_incomplete(client):
    (client.folder / "tokenizer.json").unlink()
    with pytest.raises(BundleIncomplete, match=r"tokenizer\.json"):
        Grader.load("organisation/name", revision=COMMIT)


def test_a_repository_without_a_manifest_is_no_bundle(client):
    (client.folder / "bundle.json").unlink()
    with pytest.raises(BundleIncomplete, match=r"organisation/name at 0123456789ab: no bundle\.json"):
        Grader.load("organisation/name", revision=COMMIT)


def test_names_of_the_manifest_are_no_patterns(client):
    path = client.folder / "bundle.json"
    path.write_text(path.read_text().replace('"LICENSE"', '"*"'))
    with pytest.raises(UnsafeBundle, match="is no name for a file"):
        Grader.load("organisation/name", revision=COMMIT)
    assert len(client.calls) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("GatedRepoError", "access is gated"),
        ("RepositoryNotFoundError", "no such repository, or a private one"),
        ("RevisionNotFoundError", "no such commit"),
        ("LocalEntryNotFoundError", "cannot be reached and the bundle is not in the cache"),
        ("OfflineModeIsEnabled", "cannot be reached"),
        ("HfHubHTTPError", "the Hub answered with an error: 500"),
    ],
)
def test_errors_of_the_client_say_what_to_do(client, name, message):
    client.error = getattr(client.errors, name)("500 Server Error\nand a long tail")
    with pytest.raises(BundleError, match=f"organisation/name at 0123456789ab: .*{message}") as caught:
        Grader.load("organisation/name", revision=COMMIT)
    assert caught.value.__cause__ is client.error
    assert "tail" not in str(caught.value)


def test_errors_of_its_http_library_too(client):
    client.error = type("ReadTimeout", (Exception,), {"__module__": "httpx._exceptions"})()
    with pytest.raises(BundleError, match=r"the connection to the Hub failed \(ReadTimeout\)"):
        Grader.load("organisation/name", revision=COMMIT)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TypeError("a slip"), KeyboardInterrupt()])
def test_other_errors_are_let_through(client, error):
    client.error = error
    with pytest.raises(type(error)):
        Grader.load("organisation/name", revision=COMMIT)


def test_without_the_client_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'relgrade\[hub\]'"):
        hub.fetch_bundle("organisation/name", revision=COMMIT)


def test_the_real_client_has_what_is_told_apart():
    pytest.importorskip("huggingface_hub")
    errors = importlib.import_module("huggingface_hub.errors")
    for name in fake_errors():
        kind = getattr(errors, name)
        error = kind.__new__(kind)
        error.args = ("message",)
        assert hub._explain(error, errors), name
    assert hub._explain(ValueError("x"), errors) is None


def test_hub_ids_are_two_names():
    assert hub.is_hub_id("organisation/name-v1.0")
    assert hub.is_hub_id("organisation/name@main"), "so that the branch is refused, not taken for a folder"
    for source in ("name", "a/b/c", "/a", "a/", "./a", "../a", "a/.b", "~/a", "C:/a", "", "a b/c", "a@b/c", "n@x"):
        assert not hub.is_hub_id(source), SimpleNamespace(source=source)
