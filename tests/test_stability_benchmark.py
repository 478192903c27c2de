import gzip
import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.records import OperatingPoint, Pair

pytest.importorskip("bm25s")
from benchmarks import perturbations, stability, stability_measures
from benchmarks.perturbations import ATTACKS, PERTURBATIONS, join_title, split_title

TITLED = 'title: The Old Mill\nIt stood by the river. Its owner said "no" twice. Nobody\'s left.'
CHANGES = {(each.part, each.name): each for each in PERTURBATIONS}


class FakeGrader:
    """Keeps a document in which a capital word of the query occurs as it is written; a quote in the query ends it."""

    bundle = SimpleNamespace(hash="abc")
    operating_point = OperatingPoint("balanced", 0.5)
    operating_points = (OperatingPoint("strict", 0.95), OperatingPoint("balanced", 0.5))

    def grade_pairs(self, pairs):
        for query, document in pairs:
            is_found = query.rstrip("?").split()[-1] in document and '"' not in query
            probability = 0.9 if is_found else 0.1
            yield SimpleNamespace(logit=4.0 * is_found - 2.0, probability=probability, relevant=probability >= 0.5)


class FakeVectors:
    """Cosine 0.8 with documents that say "relevant", 0.6 with those that say "near", 0 with the rest."""

    def encode(self, texts, *, kind):
        if kind == "query":
            return np.tile(np.float32([1.0, 0.0]), (len(texts), 1))
        cosines = np.asarray([0.8 if "relevant" in text else 0.6 if "near" in text else 0.0 for text in texts])
        return np.stack([cosines, np.sqrt(1.0 - cosines**2)], axis=1).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    rows = []
    for i in range(10):
        query = {"query_id": f"q{i}", "query": f"who owned Mill{i}?", "split": "test"}
        # The second of each query is irrelevant; of two queries it is kept all the same, and near by cosine.
        other = f"title: Near\nThe near one. Mill{i} too." if i < 2 else "title: Far\nA far one. It is not there."
        rows.append({**query, "doc_id": "a", "document": f"title: Mill\nMill{i} was owned.", "label": 1})
        rows.append({**query, "doc_id": "b", "document": other, "label": 0})
    with gzip.open(tmp_path / "first.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


def run(folder, capsys, *more):
    places = f"--data {folder} --output {folder}/out.json --draws 50 --quiet --rewrite-every 1"
    load, load_vectors = (lambda bundle: FakeGrader()), (lambda bundle: FakeVectors())
    assert stability.main([*places.split(), *more], load=load, load_vectors=load_vectors) == 0
    printed = capsys.readouterr().out
    return printed, json.loads(printed.splitlines()[-1]), json.loads((folder / "out.json").read_text())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("upper case", 'WHO\'S "THERE"?'),
        ("lower case", 'who\'s "there"?'),
        ("trailing white space", 'Who\'s "there"?  \t\n'),
        ("doubled blanks", 'Who\'s  "there"?'),
        ("quotes", '"Who\'s "there"?"'),
        ("curly quotes", "\u201cWho\u2019s \u201cthere\u201d?\u201d"),
        ("question mark dropped", 'Who\'s "there"'),
    ],
)
def test_a_query_is_changed_as_named(name, expected):
    assert CHANGES["query", name].apply('Who\'s "there"?', TITLED) == (expected, TITLED)


def test_a_document_is_changed_as_named_and_its_title_marker_stays():
    body = split_title(TITLED)[1]
    changed = {name: each.apply("q", TITLED)[1] for (part, name), each in CHANGES.items() if part == "document"}
    assert changed["upper case"] == "title: THE OLD MILL\n" + body.upper()
    assert changed["doubled blanks"].startswith("title: The  Old  Mill\nIt  stood")
    assert changed["quotes"] == f'title: The Old Mill\n"{body}"'
    assert changed["title dropped"] == body
    assert changed["title added"] == TITLED
    assert CHANGES["document", "title added"].apply("q", body)[1] == f"title: It stood by the river. Its\n{body}"
    reordered = split_title(changed["sentences reordered"])
    assert reordered[0] == "The Old Mill"
    assert reordered[1] != body
    assert sorted(reordered[1].split()) == sorted(body.split())
    assert [name for (_, name), each in CHANGES.items() if each.only_irrelevant] == ["sentences reordered"]


@given(st.lists(st.sampled_from(["One is here.", "Two came late.", "Three left."]), min_size=2, unique=True))
def test_sentences_stay_whole_and_their_order_does_not(sentences):
    found = perturbations.reordered(" ".join(sentences))
    assert found != " ".join(sentences)
    assert all(sentence in found for sentence in sentences)
    assert perturbations.reordered(" ".join(sentences)) == found


@given(st.text(), st.none() | st.text().filter(lambda title: "\n" not in title))
def test_titles_come_apart_and_together(body, title):
    assert join_title(*split_title(join_title(title, body))) == join_title(title, body)
    if title is not None:
        assert split_title(join_title(title, body)) == (title, body)


def test_attacks_write_into_the_text_and_leave_the_title():
    attacked = {each.name: each.rewrite("Who owned it, who?", TITLED) for each in ATTACKS}
    body = split_title(TITLED)[1]
    assert attacked["echo"] == f"title: The Old Mill\nWho owned it, who?\n{body}"
    words = "Who owned it who"
    assert attacked["stuffing"] == f"{TITLED}\n{' '.join([words] * perturbations.N_REPEATS)}"
    assert attacked["boilerplate"] == f"title: The Old Mill\n{perturbations.BOILERPLATE}\n{body}"
    assert all(split_title(text)[0] == "The Old Mill" and body in text for text in attacked.values())
    everything = attacked["all three"]
    assert all(part in everything for part in ("Who owned it, who?", perturbations.BOILERPLATE, f"{words} {words}"))


def test_flips_are_counted_on_the_pairs_that_changed(folder, capsys):
    printed, summary, report = run(folder, capsys)
    flips = report["flips"]
    # The relevant ten and two of the irrelevant are kept; in quotes none is, in other case none is found.
    for name in ("query: quotes", "query: upper case", "document: upper case"):
        assert (flips[name]["n_flipped"], flips[name]["flips"]["n_pairs"]) == (12, 20), name
        assert flips[name]["flips"]["value"] == pytest.approx(0.6)
        assert flips[name]["logit_change"]["value"] == pytest.approx(0.6 * 4.0)
        assert flips[name]["flips"]["low"] < 0.6 <= flips[name]["flips"]["high"]
    assert flips["query: title case"]["n_flipped"] == 0
    assert flips["document: title added"]["flips"]["value"] is None  # all have one
    assert flips["document: sentences reordered"]["flips"]["n_pairs"] == 10
    nothing = flips["document: trailing white space"]["flips"]
    assert (nothing["value"], nothing["n_queries"]) == (0.0, 10)
    assert nothing["high"] == pytest.approx(1 - 0.025 ** (1 / 10))
    assert (summary["flips_ok"], summary["worst_flips"]) == (False, 0.6)
    assert "query: quotes" in summary["over_the_limit"]
    assert summary == report["summary"]
    assert "0.600 [" in printed


def test_attack_rates_are_of_documents_not_kept_before(folder, capsys):
    _, summary, report = run(folder, capsys)
    at = report["attacks"]["balanced"]
    assert list(report["attacks"]) == ["balanced", "strict"]
    assert at["kept_before"]["grader"]["value"] == at["kept_before"]["cosine"]["value"] == pytest.approx(0.2)
    assert at["cosine_threshold"] == pytest.approx(0.6, abs=1e-6)
    rates = {name: (row["grader"]["value"], row["cosine"]["value"]) for name, row in at["attacks"].items()}
    assert rates["echo"] == (1.0, 0.0)
    assert rates["boilerplate"] == (0.0, 1.0)
    assert at["attacks"]["echo"]["grader"]["n_pairs"] == 8
    assert at["attacks"]["echo"]["kept_after_difference"]["value"] == pytest.approx(0.8)
    # Nothing is kept at 0.95, by the matched cosine neither, and an attack on the grader gets nowhere.
    strict = report["attacks"]["strict"]
    assert strict["kept_before"]["cosine"]["value"] == 0.0
    assert strict["attacks"]["all three"]["grader"]["value"] == 0.0
    assert strict["attacks"]["all three"]["cosine"]["value"] == 1.0
    assert (summary["attacks_ok"], summary["become_kept"]["echo"]) == (False, {"grader": 1.0, "cosine": 0.0})


def test_long_documents_are_left_out_and_fewer_are_rewritten(folder, capsys):
    _, _, report = run(folder, capsys, "--max-characters", "30", "--rewrite-every", "2", "--queries", "6")
    sample = report["sample"]
    assert sample["n_pairs"] + sample["n_documents_left_out_as_longer"] == 12
    assert sample["n_documents_left_out_as_longer"] > 0
    assert report["flips"]["document: upper case"]["flips"]["n_pairs"] == -(-sample["n_pairs"] // 2)
    assert report["flips"]["query: upper case"]["flips"]["n_pairs"] == sample["n_pairs"]


@given(st.lists(st.floats(-1, 1), min_size=1, unique=True), st.data())
def test_the_matched_threshold_keeps_as_many(scores, data):
    n_kept = data.draw(st.integers(0, len(scores)))
    assert (np.asarray(scores) >= stability_measures.matched_threshold(np.asarray(scores), n_kept)).sum() == n_kept


def test_a_query_of_two_collections_is_drawn_once():
    pairs = [
        Pair(query_id=f"{source}", query="the same", doc_id="1", document="d", label=0.0, source=source)
        for source in ("first", "second")
    ]
    sample = stability_measures.Sample(tuple(pairs), 0, 50, 0)
    assert sample.share(np.asarray([True, False]), np.asarray([True, True])).n_queries == 1
