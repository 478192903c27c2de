"""Measures of a list at once: those of each pair, whatever stands beside it, in a bounded number of runs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

import onnxruntime as ort  # noqa: E402

from relgrade.export.graph import export_onnx  # noqa: E402
from relgrade.export.interaction import HEAD_INPUTS  # noqa: E402
from relgrade.export.list_evidence import BLOCK, ListEvidence, _columns  # noqa: E402
from relgrade.grade import lists  # noqa: E402
from relgrade.grade.document_states import DocumentStates  # noqa: E402
from relgrade.grade.sessions import SequencePool, open_session  # noqa: E402
from relgrade.student.echo import MARK, WORD  # noqa: E402
from relgrade.student.evidence import NAMES, Evidence  # noqa: E402

N_VOCABULARY, N_HIDDEN, MAX_QUERY = 30, 24, 20
ASKING = {0: WORD, 1: MARK}  # token id -> what it asks with


@pytest.fixture(scope="module")
def evidence():
    is_number = (torch.arange(N_VOCABULARY) >= 25).float()
    asking = torch.zeros(N_VOCABULARY)
    for token, kind in ASKING.items():
        asking[token] = kind
    return Evidence(torch.linspace(0.0, 3.0, N_VOCABULARY), is_number, asking)


@pytest.fixture(scope="module")
def of_list(evidence):
    return ListEvidence(evidence, MAX_QUERY).eval()


class Read:
    """A text as an encoder might have read it, drawn from the seed."""

    truncated = False

    def __init__(self, ids, seed, n_windows=1):
        rng = np.random.default_rng(seed)
        self.ids = np.asarray(ids)
        self.states = (rng.normal(size=(len(ids), N_HIDDEN)) + 0.4).astype(np.float32)
        self.vectors = rng.normal(size=(n_windows, N_HIDDEN)).astype(np.float32)

    def put_states(self, target):
        target[:] = self.states


def ids(most):
    # Few tokens, so that most occur in both texts; half of all queries ask.
    return st.lists(st.integers(0, N_VOCABULARY - 1), min_size=1, max_size=most)


def measured(of_list, query, documents):
    feed = lists.lay_out(query, documents)
    measures, echoes = of_list(*(torch.from_numpy(feed[name]) for name in HEAD_INPUTS))
    return measures.numpy(), echoes.numpy()


def measured_alone(evidence, query, document):
    one = [torch.from_numpy(np.asarray(each))[None] for each in (query.ids, query.states, document.ids)]
    states, windows = torch.from_numpy(document.states)[None], torch.from_numpy(document.vectors)[None]
    masks = [torch.ones(1, len(each)) for each in (query.ids, document.ids, document.vectors)]
    vector = torch.from_numpy(query.vectors[:1])
    return evidence(one[0], masks[0], one[1], vector, one[2], masks[1], states, windows, masks[2])[0].numpy()


@settings(max_examples=60, deadline=None)
@given(
    query=ids(MAX_QUERY),
    documents=st.lists(ids(130), min_size=1, max_size=4),
    n_windows=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_measures_of_a_list_are_those_of_its_pairs(evidence, of_list, query, documents, n_windows, seed):
    asked = Read(query, seed)
    read = [Read(document, seed + 1 + i, n_windows) for i, document in enumerate(documents)]
    measures, echoes = measured(of_list, asked, read)
    for document, found, n_echoed in zip(read, measures, echoes, strict=True):
        if n_echoed == 0:
            np.testing.assert_allclose(found, measured_alone(evidence, asked, document), atol=1e-5)


@pytest.mark.parametrize("n_query", [1, 2, 3, 11, 12, 13, MAX_QUERY])
@pytest.mark.parametrize("n_document", [1, 2, 15, 16, 17, 47, 48, 49, 200])
def test_every_length_of_query_and_document_is_measured_alike(evidence, of_list, n_query, n_document):
    rng = np.random.default_rng(n_query * 1000 + n_document)
    query = Read(rng.integers(2, N_VOCABULARY, n_query), 1)
    document = Read(rng.integers(2, N_VOCABULARY, n_document), 2)
    measures, echoes = measured(of_list, query, [document])
    assert echoes[0] == 0
    np.testing.assert_allclose(measures[0], measured_alone(evidence, query, document), atol=1e-5)


def test_an_echo_is_told_of_the_document_that_holds_it_and_of_no_other(of_list):
    question = [0, 5, 9, 7, 12, 1]
    read = [Read(document, i) for i, document in enumerate(([3, *question, 4, 4], [5, 9, 7, 12], [*question]))]
    _, echoes = measured(of_list, Read(question, 9), read)
    assert echoes.tolist() == [6, 0, 6]


def test_every_measure_is_picked_once():
    for n_runs in (1, 5):
        columns = [name for name in _columns(n_runs) if name]
        alone = {"query_idf", "query_length", "n_numbers", "maxsim_span_gap"}  # of the query, or a difference
        assert sorted(columns) == sorted(set(NAMES) - alone)


@pytest.fixture(scope="module")
def graph(of_list, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "list.onnx"
    feed = lists.lay_out(Read([3, 4, 5], 0), [Read([5] * 40, 1, 2), Read([6], 2, 2)])
    axes = {
        "query_ids": {1: "n_query"},
        "query_states": {1: "n_query"},
        "document_ids": {0: "n_documents", 1: "n_document"},
        "document_states": {0: "n_documents", 1: "n_document"},
        "window_vectors": {0: "n_documents", 1: "n_windows"},
    }
    examples = tuple(torch.from_numpy(feed[name]) for name in HEAD_INPUTS)
    names = ["measures", "echoes"]
    export_onnx(of_list, examples, path, input_names=HEAD_INPUTS, output_names=names, dynamic_axes=axes)
    return path


@settings(max_examples=40, deadline=None)
@given(query=ids(MAX_QUERY), documents=st.lists(ids(90), min_size=2, max_size=9), seed=st.integers(0, 2**32 - 1))
def test_neighbours_and_padding_change_no_bit_of_a_measure(graph, query, documents, seed):
    session = open_session(graph)
    asked = Read(query, seed)
    read = [Read(document, seed + 1 + i) for i, document in enumerate(documents)]
    together = session.run(None, lists.lay_out(asked, read))
    for row, document in enumerate(read):
        alone = session.run(None, lists.lay_out(asked, [document]))
        np.testing.assert_array_equal(alone[0][0], together[0][row])
        assert alone[1][0] == together[1][row]


def test_the_graph_has_few_operators(graph, tmp_path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    ort.InferenceSession(str(graph), sess_options=options, providers=["CPUExecutionProvider"])
    import onnx

    nodes = onnx.load(str(tmp_path / "optimised.onnx")).graph.node
    assert len(nodes) <= 290  # each costs 0.8 us a run; 266 when this was written
    assert not {"If", "Loop", "Scan", "AveragePool"} & {node.op_type for node in nodes}  # slow, one and all


@given(
    sizes=st.lists(st.tuples(st.integers(1, 700), st.integers(1, 3)), min_size=1, max_size=60),
)
def test_runs_hold_each_document_once_within_their_bounds(sizes):
    read = [
        DocumentStates(
            np.zeros(n, np.int32),
            np.zeros((n, 1), np.int8),
            np.zeros(n, np.float32),
            np.zeros((w, 1), np.float32),
            False,
        )
        for n, w in sizes
    ]
    runs = lists.group(read)
    assert sorted(place for run in runs for place in run) == list(range(len(sizes)))
    for run in runs:
        assert len({sizes[place][1] for place in run}) == 1
        whole = [-(-sizes[place][0] // BLOCK) * BLOCK for place in run]
        assert max(whole) * len(run) <= lists.MAX_TOKENS or len(run) == 1
        assert max(whole) * len(run) - sum(whole) <= lists.MAX_PADDING


def test_documents_of_about_one_length_take_one_run():
    read = [Read([3] * n, n) for n in (40, 31, 35, 38, 44, 29)]
    assert len(lists.group(read)) == 1
    assert lists.BLOCK == BLOCK


def test_inputs_are_laid_out_when_it_is_their_turn(monkeypatch):
    made = []
    lay_out = lists.lay_out
    monkeypatch.setattr(lists, "lay_out", lambda *run: made.append(run) or lay_out(*run))
    feeds = lists.ListFeeds([(Read([3], 0), [Read([4], 1)]), (Read([3], 0), [Read([5, 6], 2)])])
    assert len(feeds[1:]) == 1
    assert not made

    class Session:
        def run(self, names, feed):
            return [feed["document_ids"]]

    found = SequencePool(1).run_each(Session(), feeds)
    assert len(made) == 2
    assert found[1][0].tolist() == [[5, 6, *[lists.PADDING_ID] * (BLOCK - 2)]]
    assert [feed["document_ids"][0, 0] for feed in feeds] == [4, 5]
