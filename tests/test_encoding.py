"""Text to token ids: limits, reports of what was cut, and text that only looks like a marker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.encoding import (
    MAX_CHARACTERS_PER_TOKEN,
    PairEncoder,
    PairTemplate,
    TextEncoder,
    TextTemplate,
    bare_document,
    bare_query,
    clean_text,
    render_document,
)
from relgrade.errors import InvalidInput
from relgrade.records import Document

CLS, SEP = 2, 3
PAIR = PairTemplate(prefix=(CLS,), separator=(SEP,), suffix=(SEP,), max_tokens=16, max_query_tokens=4)
TEXT = TextTemplate(prefix=(CLS,), suffix=(SEP,), max_query_tokens=4, window_tokens=6, max_windows=3)


def words(n):
    return " ".join(["red"] * n)


@pytest.mark.parametrize(("n_query", "n_document"), [(1, 1), (4, 9), (4, 10), (5, 1), (1, 12), (1, 13), (9, 40)])
def test_a_pair_never_exceeds_its_limit_and_says_when_it_was_cut(tiny_tokenizer, n_query, n_document):
    (pair,) = PairEncoder(tiny_tokenizer, PAIR).encode([(words(n_query), words(n_document))])
    kept_query = min(n_query, 4)
    room = 16 - 3 - kept_query
    assert len(pair.ids) == 3 + kept_query + min(n_document, room)
    assert pair.truncated == (n_query > 4 or n_document > room)
    assert pair.ids[0] == CLS
    assert pair.ids[-1] == SEP
    assert pair.type_ids == [0] * (2 + kept_query) + [1] * (min(n_document, room) + 1)


def test_markers_spelled_in_a_text_stay_text(tiny_tokenizer):
    (pair,) = PairEncoder(tiny_tokenizer, PAIR).encode([("red", "blue [SEP] [CLS] green")])
    assert pair.ids.count(SEP) == 2
    assert pair.ids.count(CLS) == 1
    (text,) = TextEncoder(tiny_tokenizer, TEXT).encode(["red [SEP]"], kind="query")
    assert text.windows[0].count(SEP) == 1


def test_the_papers_limit_counts_words_before_tokens(tiny_tokenizer):
    limited = PairTemplate(
        prefix=(CLS,), separator=(SEP,), suffix=(SEP,), max_tokens=16, max_query_tokens=4, max_document_words=3
    )
    encoder = PairEncoder(tiny_tokenizer, limited)
    three, four = encoder.encode([("red", "red blue green"), ("red", "red blue  green\ngrey")])
    assert four.ids == three.ids
    assert (three.truncated, four.truncated) == (False, True)


@given(st.integers(0, 40))
def test_windows_hold_every_token_once_up_to_the_limit_and_differ_by_one_at_most(n_words):
    from tests.conftest import make_wordpiece

    (text,) = TextEncoder(make_wordpiece(), TEXT).encode([words(n_words)], kind="document")
    sizes = [len(window) - 2 for window in text.windows]
    assert sum(sizes) == min(n_words, 18)
    assert max(sizes) <= 6
    assert len(sizes) == max(1, -(-min(n_words, 18) // 6))
    assert text.truncated == (n_words > 18)


def test_a_query_is_one_window(tiny_tokenizer):
    (text,) = TextEncoder(tiny_tokenizer, TEXT).encode([words(9)], kind="query")
    assert [len(window) for window in text.windows] == [6]
    assert text.truncated


def test_a_huge_text_is_cut_before_it_is_tokenised(tiny_tokenizer):
    huge = "red " * 3_000_000
    cut = huge[: 40 * MAX_CHARACTERS_PER_TOKEN]
    encoder = TextEncoder(tiny_tokenizer, TEXT)
    (whole,), (part,) = encoder.encode([huge], kind="document"), encoder.encode([cut], kind="document")
    assert whole == part
    assert whole.truncated


def test_long_white_space_counts_as_unread_text(tiny_tokenizer):
    (text,) = TextEncoder(tiny_tokenizer, TEXT).encode(["red" + " " * 100_000 + "blue"], kind="document")
    assert text.truncated


def test_a_template_without_room_for_a_document_is_refused():
    with pytest.raises(InvalidInput, match="no room"):
        PairTemplate(prefix=(CLS,), separator=(SEP,), suffix=(SEP,), max_tokens=7, max_query_tokens=4)
    with pytest.raises(InvalidInput, match=">= 1"):
        TextTemplate(prefix=(), suffix=(), max_query_tokens=4, window_tokens=0, max_windows=1)


def test_templates_survive_json():
    assert PairTemplate.from_json(PAIR.to_json()) == PAIR
    assert TextTemplate.from_json(TEXT.to_json()) == TEXT


def test_what_no_tokenizer_reads_is_replaced():
    assert clean_text("a\ud800b\0c") == "a\ufffdb c"
    assert clean_text("naïve 🙂") == "naïve 🙂"
    assert render_document(Document("text", title="A\0")) == "title: A \ntext"
    assert render_document(Document("text", title="  ")) == "text"


@pytest.mark.parametrize(
    ("query", "bare"),
    [
        ('"who sank it?"', "who sank it?"),
        ("\u201cwho sank it?\u201d", "who sank it?"),
        ("'don't sink'", "don't sink"),
        ("\u00ab o\u00f9 est-il ? \u00bb", " o\u00f9 est-il ? "),
        ("\u201c\u2018who\u2019\u201d", "who"),
        ("it\u2019s whose?", "it's whose?"),
        ('"red" and "blue"', '"red" and "blue"'),
        ('who said "no"?', 'who said "no"?'),
        ('""', '""'),
        ('" "', '" "'),
        ("the dogs' bowl", "the dogs' bowl"),
    ],
)
def test_a_query_loses_quotes_around_it_and_no_others(query, bare):
    assert bare_query(query) == bare
    assert bare_query(bare) == bare


def test_a_quoted_query_is_the_query(tiny_tokenizer):
    pairs, texts = PairEncoder(tiny_tokenizer, PAIR), TextEncoder(tiny_tokenizer, TEXT)
    assert pairs.encode([('"red blue"', "green")]) == pairs.encode([("red blue", "green")])
    assert texts.encode(['"red blue"'], kind="query") == texts.encode(["red blue"], kind="query")


@pytest.mark.parametrize(
    ("document", "bare"),
    [
        ('"It sank."', "It sank."),
        ("\u201cIt \u201csank\u201d.\u201d\n", "It \u201csank\u201d."),
        ('title: A "B"\n "It sank." ', 'title: A "B"\nIt sank.'),
        ('title: "A"\nIt sank.', 'title: "A"\nIt sank.'),
        ('title: "A"', 'title: "A"'),
        ('It "sank"', 'It "sank"'),
        ('""', '""'),
        ("", ""),
    ],
)
def test_a_document_loses_quotes_around_its_whole_text(document, bare, tiny_tokenizer):
    assert bare_document(document) == bare
    texts = TextEncoder(tiny_tokenizer, TEXT)
    assert texts.encode([document], kind="document") == texts.encode([bare], kind="document")
    pairs = PairEncoder(tiny_tokenizer, PAIR)
    assert pairs.encode([("red", document)]) == pairs.encode([("red", bare)])
