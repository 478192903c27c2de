import asyncio
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import GOLDENS, FakeRuntime, fake_bundle, fake_files, fake_logit, fake_manifest
from relgrade.bundle import load_bundle, write_bundle
from relgrade.cli.grading import verdict_fields
from relgrade.client.failing import ServerError
from relgrade.client.wire import read_call, read_reply
from relgrade.encoding import PairEncoder, PairTemplate, TextEncoder, TextTemplate, TokenCounter
from relgrade.errors import BundleCorrupt, GradingError, InvalidInput
from relgrade.grade import parts as parts_module
from relgrade.grade.cross_encoder import CrossEncoderRuntime
from relgrade.grade.grader import Grader
from relgrade.grade.interaction import InteractionRuntime
from relgrade.grade.long_documents import LongDocumentRuntime, PartsCorrection
from relgrade.grade.parts import MAX_PARTS, OVERLAP_SENTENCES, OVERLAP_SHARE, split_document
from relgrade.grade.runtime import Room, RuntimeOutput
from relgrade.grade.runtimes import load_runtime
from relgrade.grade.sentences import split_sentences
from relgrade.records import Document, Pair
from relgrade.serve.cache import MemoryCache, Reading
from relgrade.serve.redis_cache import RedisCache
from serve_case import ask, make_app

CORPUS = Path(__file__).parent.parent / "examples" / "corpus" / "documents.jsonl"
WORDS = ["river", "tower", "bridge", "museum", "ferry", "market", "garden", "harbour"]
ROOM = Room(tokens=24, characters=10_000)


def count(texts):
    """Words and marks: a sentence has as many by itself as within its text."""
    return [len(re.findall(r"\w+|[^\w\s]", text)) for text in texts]


sentences = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(
    lambda words: " ".join(words).capitalize() + "."
)
documents = st.lists(sentences, min_size=1, max_size=40).map(" ".join)


class Reader(FakeRuntime):
    """Reads 24 words. What holds the query's last word is relevant; the earlier in its part, the more."""

    def __init__(self, *, shift=0.0):
        super().__init__(shift=shift)
        self.too_long = 0

    def room(self, query):
        return ROOM

    def count_tokens(self, texts):
        return count(texts)

    def score(self, pairs):
        self.calls.append(list(pairs))
        logits, cut = [], []
        for query, document in pairs:
            assert document.strip(), "a blank document reached the model"
            word = query.split()[-1]
            logits.append(4.0 - document.find(word) / 1000 if word in document else fake_logit(query, document) - 8)
            if (query, document) in GOLDENS:
                logits[-1] = fake_logit(query, document)
            if "nanword" in document:
                logits[-1] = math.nan
            cut.append(count([document])[0] > ROOM.tokens)
        self.too_long += sum(cut)
        return RuntimeOutput(np.array(logits), np.array(cut), np.ones(len(pairs), np.int64))


def runtime(per_doubling=0.5):
    return LongDocumentRuntime(Reader(), correction=PartsCorrection(per_doubling))


@pytest.fixture
def grader(tmp_path):
    return Grader(fake_bundle(tmp_path / "b"), runtime())


def filler(n, *, word="grass"):
    return " ".join(f"The {word} number {i} grows by the wall." for i in range(n))


@given(documents)
def test_parts_cover_the_text_in_order_and_fit(text):
    made = split_document(text, ROOM, count_tokens=count)
    assert not made.is_cut
    assert made.parts[0].start == 0
    assert made.parts[-1].end == len(text)
    for before, after in zip(made.parts, made.parts[1:], strict=False):
        assert before.start < after.start <= before.end < after.end
    for part in made.parts:
        assert part.text == text[part.start : part.end].strip()
        assert count([part.text])[0] <= ROOM.tokens


@given(documents, st.sampled_from([24, 60]))
def test_parts_begin_and_end_on_sentence_borders_and_overlap_as_stated(text, n_tokens):
    starts = [start for start, _ in split_sentences(text)]
    made = split_document(text, Room(n_tokens, 10_000), count_tokens=count)
    for part in made.parts:
        assert part.start in starts
        assert part.end in {*starts, len(text)}
    for before, after in zip(made.parts, made.parts[1:], strict=False):
        shared = [start for start in starts if after.start <= start < before.end]
        assert len(shared) <= OVERLAP_SENTENCES
        assert count([text[after.start : before.end]])[0] <= OVERLAP_SHARE * n_tokens
        last = text[starts[starts.index(before.end) - 1] : before.end]
        new = text[before.end : [*starts, len(text)][starts.index(before.end) + 1]]
        if count([last])[0] <= OVERLAP_SHARE * n_tokens and count([last + new])[0] <= n_tokens:
            assert shared, "a short last sentence is read with what follows it too"


def test_two_short_sentences_are_read_twice_and_no_more():
    text = " ".join(f"Wall {i}." for i in range(40))
    made = split_document(text, Room(60, 10_000), count_tokens=count)
    assert [count([part.text])[0] for part in made.parts] == [60, 60, 12]
    for before, after in zip(made.parts, made.parts[1:], strict=False):
        assert len(split_sentences(text[after.start : before.end])) == OVERLAP_SENTENCES


@given(st.text(max_size=400), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 5)))
def test_any_text_in_any_room_is_covered(text, n_tokens, n_words):
    text = text.replace("\0", " ")
    if not text.strip():
        return
    made = split_document(text, Room(n_tokens, 10_000, n_words), count_tokens=count)
    head = made.parts[0].start
    covered = made.parts[0].end
    assert text.startswith("title: ") or head == 0
    for part in made.parts[1:]:
        assert part.start <= covered < part.end
        covered = part.end
    assert covered == len(text) or made.is_cut == bool(text[covered:].strip())
    for part in made.parts:
        assert count([part.text])[0] <= n_tokens or part.end - part.start == 1
        assert n_words is None or len(part.text.split()) <= n_words


def test_a_sentence_that_does_not_fit_is_cut_at_white_space():
    text = "One two three. " + " ".join(f"word{i}" for i in range(60)) + ". End."
    made = split_document(text, ROOM, count_tokens=count)
    for part in made.parts:
        assert part.end == len(text) or text[part.end - 1].isspace()
    unbroken = split_document("-" * 100, ROOM, count_tokens=count)
    assert unbroken.parts[-1].end == 100


def test_tokens_that_do_not_add_up_still_make_parts_that_fit():
    def grows(texts):  # a text has more tokens than its sentences
        return [n + n // 8 for n in count(texts)]

    made = split_document(filler(30), ROOM, count_tokens=grows)
    assert max(grows([part.text for part in made.parts])) <= ROOM.tokens


def test_every_part_has_the_title_unless_it_is_long():
    text = "title: Old walls\n" + filler(9)
    made = split_document(text, ROOM, count_tokens=count)
    assert len(made.parts) > 2
    for part in made.parts:
        assert part.text == "title: Old walls\n" + text[part.start : part.end].strip()
    assert made.parts[0].start == len("title: Old walls\n")
    long = "title: " + "very " * 12 + "old walls\n" + filler(9)
    assert [part.text.startswith("title: ") for part in split_document(long, ROOM, count_tokens=count).parts[:2]] == [
        True,
        False,
    ]
    assert split_document("title: only this line\n \n", ROOM, count_tokens=count).parts[0].start == 0


def test_beyond_the_last_part_nothing_is_read_and_it_is_said():
    assert split_document(filler(3 * MAX_PARTS), ROOM, count_tokens=count).is_cut
    made = split_document(filler(3 * MAX_PARTS), ROOM, count_tokens=count)
    assert len(made.parts) == MAX_PARTS
    wide = "one" + " " * (MAX_PARTS * ROOM.tokens * 40)
    assert not split_document(wide, ROOM, count_tokens=count).is_cut
    assert split_document(wide + " two", ROOM, count_tokens=count).is_cut


def test_text_of_long_words_is_looked_at_as_far_as_it_goes():
    text = " ".join(f"{'a' * 20}{i}." for i in range(1200))  # beyond the first look
    assert len(text) > MAX_PARTS * ROOM.tokens * parts_module._FIRST_LOOK
    made = split_document(text, ROOM, count_tokens=count)
    assert len(made.parts) == MAX_PARTS
    assert made.parts[-1].end > MAX_PARTS * ROOM.tokens * parts_module._FIRST_LOOK


@given(st.floats(0, 5), st.integers(1, MAX_PARTS - 1))
def test_the_correction_never_falls_with_more_parts(per_doubling, n):
    correction = PartsCorrection(per_doubling)
    assert correction.of(1) == 0.0
    assert correction.of(n + 1) >= correction.of(n) >= 0.0


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.3", True, None])
def test_a_correction_that_is_none_is_refused(value, tmp_path):
    with pytest.raises(InvalidInput, match="per_doubling"):
        PartsCorrection(value)


def test_the_bundle_says_what_is_taken_off(tmp_path):
    def written(options, name):
        write_bundle(tmp_path / name, fake_manifest(options=options), fake_files())
        return PartsCorrection.of_bundle(load_bundle(tmp_path / name))

    assert written({}, "a") == PartsCorrection()
    assert written({"long_documents": {"per_doubling": 0.75, "evidence": {"n": 3}}}, "b") == PartsCorrection(0.75)
    for i, broken in enumerate([[], {"per_doubling": -1}, {"per_doubling": "much"}]):
        with pytest.raises(BundleCorrupt, match=r"options\.long_documents"):
            written({"long_documents": broken}, f"broken{i}")


def test_what_fits_reaches_the_reader_as_it_is():
    long = runtime()
    pairs = [("about a tower", "The tower."), ("about a tower", "title: T\n" + filler(2) + "  \n")]
    output = long.score(pairs)
    assert long.reader.calls == [pairs]
    np.testing.assert_array_equal(output.logits, Reader().score(pairs).logits)
    assert (output.spans, output.span(1)) == ((), None)


def test_the_logit_is_the_best_parts_less_the_correction():
    long = runtime(0.5)
    text = filler(20) + " The tower opened in May. " + filler(20, word="moss")
    (plan,) = long.plan([("about a tower", text)])
    output = long.score([("about a tower", text)])
    logits = [Reader().score([("about a tower", part.text)]).logits[0] for part in plan.parts]
    assert output.logits[0] == max(logits) - 0.5 * math.log2(len(plan.parts))
    start, end = output.span(0)
    assert "The tower opened in May." in text[start:end]
    assert (output.windows[0], output.truncated[0]) == (len(plan.parts), False)
    assert long.reader.too_long == 0


def test_a_grade_does_not_depend_on_neighbours_or_chunks(monkeypatch):
    rng = np.random.default_rng(0)
    pairs = [(f"about a {WORDS[i % 8]}", filler(int(rng.integers(1, 40)), word=WORDS[i % 5])) for i in range(12)]
    whole = runtime().score(pairs)
    monkeypatch.setattr("relgrade.grade.long_documents.CHUNK_PARTS", 2)
    np.testing.assert_array_equal(runtime().score(pairs[::-1]).logits[::-1], whole.logits)
    for i, pair in enumerate(pairs):
        alone = runtime().score([pair])
        assert (alone.logits[0], alone.span(0), alone.windows[0]) == (
            whole.logits[i],
            whole.span(i),
            whole.windows[i],
        )


def test_a_part_without_a_finite_logit_is_no_verdict(grader):
    text = filler(10) + " A nanword stands here. " + filler(10)
    assert math.isnan(runtime().score([("about a tower", text)]).logits[0])
    with pytest.raises(GradingError) as caught:
        grader.grade("about a tower", ["The tower.", text])
    assert caught.value.index == 1


def test_an_error_of_the_reader_names_the_document():
    class Failing(Reader):
        def score(self, pairs):
            bad = [i for i, (_, text) in enumerate(pairs) if "bad" in text]
            if bad:
                raise GradingError("no", index=bad[0])
            return super().score(pairs)

    long = LongDocumentRuntime(Failing(), correction=PartsCorrection())
    with pytest.raises(GradingError) as caught:
        long.score([("q", filler(30)), ("q", "short"), ("q", filler(9) + " A bad one. " + filler(9))])
    assert caught.value.index == 2


@pytest.mark.parametrize("title", [None, "Old walls", "Two\nlines", "\u00e9\U0001f600 \ud800"])
def test_the_best_window_counts_the_callers_own_text(grader, title):
    text = filler(15) + " The tower\0 opened \U0001f600 in May. " + filler(15)
    for document in (Document(text, title), {"text": text, "title": title}):
        (grade,) = grader.grade("about a tower", [document])
        start, end = grade.best_window
        assert "The tower\0 opened \U0001f600 in May." in text[start:end]
        assert len(text[start:end]) < len(text) / 3
        assert start in [first for first, _ in split_sentences(text)]
        assert not grade.truncated
    pair = Pair(query_id="q", query="about a tower", doc_id="d", document="title: Old walls\n" + text)
    (grade,) = grader.grade_pairs([pair])
    assert "The tower\0 opened" in pair.document[slice(*grade.best_window)]


def test_a_document_read_at_once_has_no_best_window(grader):
    grades = grader.grade("about a tower", ["The tower.", "", "short" + " " * 20_000])
    assert [grade.best_window for grade in grades] == [None, None, None]
    assert [grade.truncated for grade in grades] == [False, False, False]
    assert "best_window" not in verdict_fields(grades[0])


def test_what_is_beyond_the_parts_is_told_by_the_grade(grader):
    (grade,) = grader.grade("about a tower", [filler(400)])
    assert grade.truncated
    assert verdict_fields(grade)["best_window"] == list(grade.best_window)


def test_evidence_and_compression_of_a_long_document(grader):
    text = filler(40) + " The tower opened in May. " + filler(40)
    (grade,) = grader.grade("about a tower", [text], evidence=True)
    assert grade.relevant
    assert [span.text for span in grade.evidence] == ["The tower opened in May."]
    assert grade.best_window[0] <= grade.evidence[0].start < grade.evidence[0].end <= grade.best_window[1]
    assert grader.compress("about a tower", [text]).texts == ["The tower opened in May."]


class Session:
    """Looks like the graph of either architecture, and runs nothing."""

    def __init__(self, *names):
        self._names = names

    def get_inputs(self):
        return [type("Input", (), {"name": name}) for name in self._names]


@given(st.integers(0, 12), st.integers(0, 40), st.one_of(st.none(), st.integers(1, 30)))
def test_the_room_is_what_the_encoders_read(tiny_tokenizer, n_query, n_document, n_words):
    query, document = "red " * n_query + "red", "blues " * n_document + "blue"
    n_tokens = TokenCounter(tiny_tokenizer).count([document])[0]
    pair_template = PairTemplate((2,), (3,), (3,), 32, 8, max_document_words=n_words)
    names = ("input_ids", "attention_mask")
    cross = CrossEncoderRuntime(Session(*names), tiny_tokenizer, template=pair_template, n_threads=1)
    room = cross.room(query)
    fits = n_tokens <= room.tokens and (room.words is None or len(document.split()) <= room.words)
    (encoded,) = PairEncoder(tiny_tokenizer, pair_template).encode([(query, document)])
    assert encoded.truncated == (not fits or n_query + 1 > 8)

    text_template = TextTemplate((2,), (3,), 8, 6, 3)
    names = ("query_ids", "query_states", "query_vector", "document_ids", "document_states", "window_vectors")
    both = InteractionRuntime(Session(), Session(*names), tokenizer=tiny_tokenizer, template=text_template, n_threads=1)
    (text,) = TextEncoder(tiny_tokenizer, text_template).encode([document], kind="document")
    assert text.truncated == (n_tokens > both.room(query).tokens)


def test_a_sentence_at_any_place_of_a_long_document_is_found():
    bundle = Grader.load(n_threads=1).bundle
    grader = Grader(bundle, load_runtime(bundle, n_threads=1))
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    corpus = [row["text"] for row in rows]
    needle = "The lighthouse keeper of Skarnholm was paid forty crowns a year."
    query = "How much was the lighthouse keeper of Skarnholm paid a year?"
    documents = []
    for share in (0.0, 0.6, 1.0):
        at = round(share * len(corpus))
        documents.append("\n\n".join([*corpus[:at], needle, *corpus[at:]]))
    assert grader._runtime.count_tokens([documents[0]])[0] > 6000
    (without, *found) = grader.grade(query, ["\n\n".join(corpus), *documents])
    assert not without.relevant
    for grade, document in zip(found, documents, strict=True):
        start, end = grade.best_window
        assert needle in document[start:end]
        assert (grade.relevant, grade.truncated) == (True, False)
        assert grade.windows > 20


def test_a_server_grades_parts_as_pairs_and_remembers_the_document(tmp_path):
    text = filler(40) + " The tower opened in May. " + filler(40)
    body = {"query": "about a tower", "documents": [{"text": text, "title": "Walls"}, "The tower.", filler(30)]}
    model = runtime()
    app = make_app(tmp_path / "b", runtime=model, cache=MemoryCache(10), batch_tokens=100)
    first, second = (ask(app, "/v1/grade", body).json() for _ in range(2))
    local = Grader(load_bundle(tmp_path / "b"), runtime()).grade(body["query"], body["documents"])
    for row, grade in zip(first["results"], local, strict=True):
        for name in ("logit", "probability", "relevant", "truncated", "windows"):
            assert row[name] == getattr(grade, name)
        assert row.get("best_window") == (None if grade.best_window is None else list(grade.best_window))
    assert "The tower opened in May." in text[slice(*first["results"][0]["best_window"])]
    assert second["results"] == first["results"]
    assert (first["timings"]["n_cached"], second["timings"]["n_cached"]) == (0, 3)
    assert max(len(call) for call in model.reader.calls[1:]) < 12, "the parts did not come in one piece"
    assert first["usage"]["tokens"] == sum(count(["title: Walls\n" + text, "The tower.", filler(30)]))


def test_a_server_with_a_part_that_has_no_logit_gives_no_verdict(tmp_path):
    text = filler(10) + " A nanword stands here. " + filler(10)
    app = make_app(tmp_path / "b", runtime=runtime())
    body = {"query": "about a tower", "documents": [text, "The tower."], "on_error": "drop_all"}
    rows = ask(app, "/v1/grade", body).json()["results"]
    assert [row["logit"] is None for row in rows] == [True, False]


def test_a_client_tells_the_window_and_believes_no_other(tmp_path):
    text = filler(40) + " The tower opened in May."
    app = make_app(tmp_path / "b", runtime=runtime())
    call = read_call("about a tower", [text], operating_point=None, on_error="raise")
    reply = ask(app, "/v1/grade", json.loads(call.content)).json()
    (grade,) = read_reply(call, reply, request_id=None)
    assert grade.best_window == tuple(reply["results"][0]["best_window"])
    for broken in ([0], [5, 2], [0, len(text) + 1], ["a", "b"], 3):
        reply["results"][0]["best_window"] = broken
        with pytest.raises(ServerError):
            read_reply(call, reply, request_id=None)


def test_redis_keeps_the_window():
    class Redis:
        def __init__(self):
            self.kept = {}

        async def mget(self, keys):
            return [self.kept.get(key) for key in keys]

        def pipeline(self, transaction):
            return self

        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            pass

        def set(self, key, value, ex):
            self.kept[key] = value.encode()

        async def execute(self):
            pass

    redis = Redis()
    cache = RedisCache(redis)
    reading = Reading(0.5, False, 3, (4, 90))

    async def run():
        await cache.put({"a": reading})
        for name, value in {
            "old": "[1.0, true, 1]",
            "odd": "[1.0, true, 1, [2]]",
            "back": "[1.0, true, 1, [9, 2]]",
        }.items():
            redis.kept[f"relgrade:1:{name}"] = value.encode()
        return await cache.get(["a", "old", "odd", "back"])

    assert asyncio.run(run()) == {"a": reading}
