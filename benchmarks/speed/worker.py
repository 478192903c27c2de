"""One contender in a process of its own: reads lists of documents as JSON lines on stdin, says how long each took.

    python worker.py NAME FOLDER N_THREADS

FOLDER is what `benchmarks.speed.weights` made. The file stands alone, so that an environment with other pins than
relgrade's can run it. A line in: {"lists": [[query, [document, ...]], ...]}; a line out: {"wall": [...], "cpu":
[...], "peak_mb": n}, seconds for each list, CPU seconds of all threads together. The first line out says how long
loading took.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_TOKENS = 512  # of a pair, for every contender
INT8 = "onnx/model_qint8.onnx"
BUNDLE = "bundle "  # begins the name of a contender that is the relgrade bundle in the folder that follows
Score = Callable[[str, list[str]], Any]


def session_options(n_threads: int) -> Any:
    """The settings of onnxruntime but for the threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    return options


def relgrade_grader(bundle: Path | str | None, n_threads: int) -> Score:
    """The interaction grader as a user calls it."""
    from relgrade import Grader

    grader = Grader.load(bundle, n_threads=n_threads)
    return lambda query, documents: grader.grade(query, documents)


def relgrade_pairs(graph: Path, n_threads: int) -> Score:
    """The runtime of cross-encoders over one of the graphs of the common weights."""
    from tokenizers import Tokenizer

    from relgrade.encoding import PairTemplate
    from relgrade.grade.cross_encoder import CrossEncoderRuntime
    from relgrade.grade.sessions import open_session

    tokenizer = Tokenizer.from_file(str(graph.parent.parent / "tokenizer.json"))
    start, end = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    template = PairTemplate((start,), (end,), (end,), max_tokens=MAX_TOKENS, max_query_tokens=128)
    runtime = CrossEncoderRuntime(open_session(graph), tokenizer, template=template, n_threads=n_threads)
    return lambda query, documents: runtime.score([(query, document) for document in documents])


def sentence_transformers(folder: Path, n_threads: int, *, is_onnx: bool) -> Score:
    """CrossEncoder; it sorts by length and takes batches of 32."""
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(n_threads)
    options = {"session_options": session_options(n_threads)} if is_onnx else {}
    model = CrossEncoder(
        str(folder),
        device="cpu",
        max_length=MAX_TOKENS,
        backend="onnx" if is_onnx else "torch",
        model_kwargs={"file_name": INT8, "provider": "CPUExecutionProvider", **options} if is_onnx else None,
    )
    return lambda query, documents: model.predict([(query, each) for each in documents], show_progress_bar=False)


def transformers_pipeline(folder: Path, n_threads: int) -> Score:
    """The pipeline for text classification, a list sorted by length in one call."""
    import torch
    from transformers import pipeline

    torch.set_num_threads(n_threads)
    run = pipeline("text-classification", model=str(folder), device="cpu")

    def score(query: str, documents: list[str]) -> Any:
        pairs = [{"text": query, "text_pair": document} for document in sorted(documents, key=len)]
        return run(pairs, batch_size=8, truncation=True, max_length=MAX_TOKENS)

    return score


def flashrank(folder: Path, n_threads: int) -> Score:
    """Its engine over our file; the session alone is made here, since it has no setting for threads."""
    import onnxruntime
    from flashrank import Ranker, RerankRequest
    from flashrank.Config import model_file_map

    model_file_map[folder.name] = INT8
    ranker = Ranker(model_name=folder.name, cache_dir=str(folder.parent), max_length=MAX_TOKENS, log_level="ERROR")
    ranker.session = onnxruntime.InferenceSession(str(folder / INT8), session_options(n_threads))
    return lambda query, documents: ranker.rerank(RerankRequest(query, [{"text": each} for each in documents]))


def fastembed(folder: Path, n_threads: int) -> Score:
    """TextCrossEncoder over our file."""
    from fastembed.common.model_description import ModelSource
    from fastembed.rerank.cross_encoder import TextCrossEncoder

    TextCrossEncoder.add_custom_model("local/speed", sources=ModelSource(hf="local/speed"), model_file=INT8)
    model = TextCrossEncoder("local/speed", threads=n_threads, specific_model_path=str(folder))
    return lambda query, documents: list(model.rerank(query, documents))


def infinity(folder: Path, n_threads: int, *, engine: str) -> Score:
    """The engine in this process, without its HTTP server."""
    import torch
    from infinity_emb import AsyncEmbeddingEngine, EngineArgs

    torch.set_num_threads(n_threads)
    loop = asyncio.new_event_loop()
    arguments = EngineArgs(model_name_or_path=str(folder), engine=engine, device="cpu", model_warmup=False)
    model = AsyncEmbeddingEngine.from_args(arguments)
    loop.run_until_complete(model.astart())
    return lambda query, documents: loop.run_until_complete(model.rerank(query=query, docs=documents))


def plain_onnxruntime(folder: Path, n_threads: int) -> Score:
    """What one writes by hand: sorted by length, padded batches of 8."""
    import numpy as np
    import onnxruntime
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(folder / INT8), session_options(n_threads))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding()

    def score(query: str, documents: list[str]) -> Any:
        ordered, logits = sorted(documents, key=len), []
        for i in range(0, len(ordered), 8):
            encoded = tokenizer.encode_batch([(query, document) for document in ordered[i : i + 8]])
            columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
            feed = {name: np.asarray([getattr(e, a) for e in encoded], np.int64) for name, a in columns.items()}
            logits.append(session.run(None, feed)[0])
        return logits

    return score


def load(name: str, folder: Path, n_threads: int) -> Score:
    """The contender of a name."""
    if name.startswith(BUNDLE):
        return relgrade_grader(Path(name.removeprefix(BUNDLE)), n_threads)
    model = folder / "model"
    contenders: dict[str, Callable[[], Score]] = {
        "relgrade default": lambda: relgrade_grader(None, n_threads),
        "relgrade nano": lambda: relgrade_grader("nano", n_threads),
        "relgrade pairs, float": lambda: relgrade_pairs(model / "onnx/model_float.onnx", n_threads),
        "relgrade pairs, two-digit": lambda: relgrade_pairs(model / "onnx/model_digits.onnx", n_threads),
        "relgrade pairs, the int8 file": lambda: relgrade_pairs(model / INT8, n_threads),
        "sentence-transformers torch": lambda: sentence_transformers(model, n_threads, is_onnx=False),
        "sentence-transformers int8": lambda: sentence_transformers(model, n_threads, is_onnx=True),
        "transformers pipeline": lambda: transformers_pipeline(model, n_threads),
        "flashrank int8": lambda: flashrank(model, n_threads),
        "fastembed int8": lambda: fastembed(model, n_threads),
        "infinity torch": lambda: infinity(model, n_threads, engine="torch"),
        "infinity int8": lambda: infinity(model, n_threads, engine="optimum"),
        "onnxruntime int8": lambda: plain_onnxruntime(model, n_threads),
    }
    return contenders[name]()


def peak_mb() -> float:
    """Largest resident memory of this process so far, in 2^20 bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return float("nan")


def main() -> None:
    """Load, then answer until stdin ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; only replies go to the parent
    name, folder, n_threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    start = time.perf_counter()
    score = load(name, folder, n_threads)
    print(json.dumps({"load_s": time.perf_counter() - start}), file=replies, flush=True)
    for line in sys.stdin:
        wall, cpu = [], []
        for query, documents in json.loads(line)["lists"]:
            began, used = time.perf_counter(), time.process_time()
            score(query, documents)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
        print(json.dumps({"wall": wall, "cpu": cpu, "peak_mb": peak_mb()}), file=replies, flush=True)


if __name__ == "__main__":
    main()
