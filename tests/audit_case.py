"""What the tests of the audit share: labelled pairs, samples of them, and a server of the annotation page."""

import threading
from contextlib import contextmanager

import numpy as np

from relgrade.audit.annotating import Annotating
from relgrade.audit.annotations import AnnotationLog
from relgrade.audit.guideline import guideline_for
from relgrade.audit.server import AnnotationServer
from relgrade.records import Pair

WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath", "inlet", "jetty", "knoll", "larch"]


def labelled_pairs(*, n_queries=30, n_documents=6, seed=0, share_wrong=0.15, **fields):
    """Pairs whose truth is in the words; the truth is in field `gold`, and the teacher is wrong now and then."""
    generator = np.random.default_rng(seed)
    pairs = []
    for i in range(n_queries):
        asked = generator.choice(WORDS, 3, replace=False)
        for j in range(n_documents):
            gold = int(generator.random() < 0.4)
            said = generator.choice(asked, 2, replace=False) if gold else generator.choice(WORDS, 2)
            text = " ".join(generator.permutation([*said, *generator.choice(WORDS, 4)]))
            is_wrong = generator.random() < share_wrong
            label = generator.uniform(0.55, 1.0) if gold != is_wrong else generator.uniform(0.0, 0.45)
            pairs.append(
                Pair(
                    query_id=f"q{i}",
                    query=f"where is {' '.join(asked)} number {i}",
                    doc_id=f"d{i}-{j}",
                    document=f"title: {said[0]} {i}\n{text}",
                    label=round(float(label), 4),
                    fields={"gold": gold, **fields},
                )
            )
    return pairs


@contextmanager
def serving(cases, path, *, annotators=("ann",), rubric="answer-bearing"):
    """A server of the page in a thread."""
    with AnnotationLog(path) as log:
        annotating = Annotating(cases, guideline_for(rubric), log=log, annotators=annotators)
        with AnnotationServer(annotating) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join()
