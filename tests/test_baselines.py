import sys

import numpy as np
import pytest

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.evaluate.baselines import BM25, word_overlap

CORPUS = ["The heron waits in the shallow water", "A kettle boils water in minutes", "", "Granite is a hard rock"]


@pytest.fixture(scope="module")
def bm25():
    pytest.importorskip("bm25s")
    return BM25(CORPUS)


def test_the_formula_of_bm25_by_hand(bm25):
    # "heron" stands once in one of 4 documents; lengths without stop words: heron, waits, shallow, water = 4, and
    # 4 (kettle, boils, water, minutes), 0, 3: mean 2.75. Lucene's idf; k1 + 1 is left out of the numerator there.
    idf = np.log(1.0 + (4 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 1.0 / (1.0 + 1.5 * (1.0 - 0.75 + 0.75 * 4 / 2.75))
    assert bm25.score([("heron", CORPUS[0])])[0] == pytest.approx(expected, rel=1e-4)


def test_rare_words_weigh_more_and_stop_words_nothing(bm25):
    rare, common, stop = bm25.score([("heron", CORPUS[0]), ("water", CORPUS[0]), ("the in", CORPUS[0])])
    assert rare > common > stop == 0.0


def test_a_score_does_not_depend_on_the_other_pairs(bm25):
    pairs = [(query, document) for query in ("hard water", "heron rock", "", "zzz") for document in CORPUS]
    together = bm25.score(pairs)
    alone = [bm25.score([pair])[0] for pair in pairs]
    assert together.tolist() == alone
    assert bm25.score(pairs[::-1]).tolist() == alone[::-1]
    assert (together[8:] == 0.0).all()


def test_repeated_documents_count_once(bm25):
    pairs = [("heron", document) for document in CORPUS]
    assert BM25(CORPUS * 3).score(pairs).tolist() == bm25.score(pairs).tolist()


def test_no_pairs_no_scores(bm25):
    assert bm25.score([]).shape == (0,)


def test_a_document_from_elsewhere_is_refused(bm25):
    with pytest.raises(InvalidInput, match="not given this document"):
        bm25.score([("water", "A document from elsewhere")])


@pytest.mark.parametrize("corpus", [[], [""], ["the and of"]])
def test_a_corpus_without_words_is_refused(corpus):
    pytest.importorskip("bm25s")
    with pytest.raises(InvalidInput, match="no word to index"):
        BM25(corpus)


def test_without_bm25s_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(MissingExtra, match=r"relgrade\[evaluate\]"):
        BM25(CORPUS)


def test_word_overlap_is_a_share_of_the_query():
    pairs = [("Hard water", "The WATER is hard"), ("hard rock", "hard"), ("", "hard"), ("hard hard", ""), ("a b", "b!")]
    assert word_overlap(pairs).tolist() == [1.0, 0.5, 0.0, 0.0, 0.5]
