"""What a document cache is worth: pairs a second without, from memory and from disk, and the verdicts it moves.

    python -m benchmarks.document_cache --data FOLDER [--pairs N] [--rounds N]

Test lists of up to 20 documents of one query. Each list is graded in turn by every contender, in one process: without a
cache, from memory, from a folder that another cache object wrote (`disk`, memory off), and by sentence-transformers'
CrossEncoder in torch, of the same depth and width, with random weights, where that is installed. Times are of processor
and of wall; what else runs on the machine moves both, so that ratios are what to read. The last line is JSON.
"""

import argparse
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labelled import SUFFIX
from benchmarks.rag_corpora import read_rows
from relgrade.grade.document_cache import DocumentCache
from relgrade.grade.grader import Grader

ROOT = Path(__file__).resolve().parent.parent
FILES = ("multihop_rag_top20", "nq_oracle", "squad2_dev", "scifact", "hotpotqa", "trec_dl21", "chunking_eval")
MAX_DOCUMENTS = 20

List = tuple[str, list[str]]  # a query and its documents


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.document_cache")
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    parser.add_argument("--pairs", type=int, default=2000, help="in all, about")
    parser.add_argument("--timed-pairs", type=int, default=300, help="of them, those that are timed")
    parser.add_argument("--rounds", type=int, default=2, help="over the timed ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-torch", action="store_true", help="leave the CrossEncoder out")
    output = ROOT / "benchmarks" / "results" / "document_cache.json"
    parser.add_argument("--output", type=Path, default=output, help="report to write")
    options = parser.parse_args(arguments)
    lists = read_lists(options.data, options.pairs)
    with tempfile.TemporaryDirectory() as folder:
        report = measure(lists, Path(folder), options)
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))
    return 0


def read_lists(data: Path, n_pairs: int) -> list[List]:
    """Lists of the test queries of each file in turn, shuffled, until there are about so many pairs."""
    rng = random.Random(0)
    lists: list[List] = []
    for name in FILES:
        by_query: dict[str, list[str]] = {}
        for row in read_rows(data / f"{name}{SUFFIX}"):
            if row["split"] == "test" and row["document"].strip():
                by_query.setdefault(row["query"], []).append(row["document"])
        queries = sorted(by_query)
        rng.shuffle(queries)
        n_taken = 0
        for query in queries:
            if n_taken >= n_pairs / len(FILES):
                break
            documents = list(dict.fromkeys(by_query[query]))[:MAX_DOCUMENTS]
            lists.append((query, documents))
            n_taken += len(documents)
    rng.shuffle(lists)
    return lists


def measure(lists: Sequence[List], folder: Path, options: Any) -> dict[str, Any]:
    """Verdicts over all lists, times over some of them, contenders in turn."""
    plain = Grader.load(n_threads=options.threads)
    writing = Grader.load(n_threads=options.threads, document_cache=DocumentCache(folder, memory_bytes=2**31))
    expected, found = _grades(plain, lists), _grades(writing, lists)
    assert writing.document_cache is not None
    stats = writing.document_cache.stats
    writing.document_cache.close()
    disk = Grader.load(n_threads=options.threads, document_cache=DocumentCache(folder, memory_bytes=0))
    _grades(disk, lists[:1])  # opens the file
    cold = Grader.load(n_threads=options.threads, document_cache=DocumentCache(memory_bytes=1))
    contenders: dict[str, Callable[[List], object]] = {
        "uncached": lambda each: plain.grade(*each),
        "cold": lambda each: cold.grade(*each),
        "memory": lambda each: writing.grade(*each),
        "disk": lambda each: disk.grade(*each),
    }
    if not options.no_torch and (torch_scorer := _cross_encoder(options.threads)) is not None:
        contenders["sentence-transformers"] = torch_scorer
    timed = lists[: max(1, round(len(lists) * options.timed_pairs / sum(len(each[1]) for each in lists)))]
    rates = _time(contenders, timed, n_rounds=options.rounds)
    assert disk.document_cache is not None
    info_bytes = sum(file.stat().st_size for file in folder.iterdir())
    return {
        "bundle_hash": plain.bundle.hash,
        "hardware": {"processor": platform.processor() or platform.machine(), "n_threads": options.threads},
        "load_average": os.getloadavg()[0],
        "n_lists": len(lists),
        "n_pairs": sum(len(each[1]) for each in lists),
        "n_timed_pairs": sum(len(each[1]) for each in timed),
        "verdicts": _compare(plain, expected, found),
        "bytes_per_document": stats.bytes_per_document,
        "bytes_per_document_on_disk": info_bytes / max(stats.n_documents, 1),
        "disk_hit_ratio": disk.document_cache.stats.hit_ratio,
        "pairs_per_s": rates,
    }


def _grades(grader: Grader, lists: Sequence[List]) -> list[Any]:
    return [grade for query, documents in lists for grade in grader.grade(query, documents).grades]


def _compare(grader: Grader, expected: Sequence[Any], found: Sequence[Any]) -> dict[str, Any]:
    errors = np.abs([one.logit - other.logit for one, other in zip(expected, found, strict=True)])
    return {
        "point": grader.operating_point.name,
        "flips": sum(one.relevant != other.relevant for one, other in zip(expected, found, strict=True)),
        "three_way_flips": sum(one.verdict != other.verdict for one, other in zip(expected, found, strict=True)),
        "share": float(np.mean([one.relevant != other.relevant for one, other in zip(expected, found, strict=True)])),
        "logit_error_mean": float(errors.mean()),
        "logit_error_99": float(np.quantile(errors, 0.99)),
        "logit_error_max": float(errors.max()),
    }


def _time(
    contenders: dict[str, Callable[[List], object]], lists: Sequence[List], *, n_rounds: int
) -> dict[str, dict[str, float]]:
    """Pairs a second of each, of wall and of processor; the contenders take turns at every list."""
    wall, cpu = dict.fromkeys(contenders, 0.0), dict.fromkeys(contenders, 0.0)
    for _ in range(n_rounds):
        for each in lists:
            for name, grade in contenders.items():
                wall_s, cpu_s = time.perf_counter(), time.process_time()
                grade(each)
                wall[name] += time.perf_counter() - wall_s
                cpu[name] += time.process_time() - cpu_s
    n_pairs = n_rounds * sum(len(documents) for _, documents in lists)
    slowest = "sentence-transformers" if "sentence-transformers" in contenders else "uncached"
    return {
        name: {
            "wall": n_pairs / wall[name],
            "processor": n_pairs / cpu[name],
            f"times_{slowest}": wall[slowest] / wall[name],
            f"times_{slowest}_by_processor": cpu[slowest] / cpu[name],
        }
        for name in contenders
    }


def _cross_encoder(n_threads: int) -> Callable[[List], object] | None:
    """MiniLM's shape, six layers of 384, untrained: its speed does not depend on its weights."""
    try:
        import torch
        from sentence_transformers import CrossEncoder
        from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
    except ImportError:
        return None
    torch.set_num_threads(n_threads)
    bundle = Grader.load(n_threads=1).bundle
    with tempfile.TemporaryDirectory() as folder:
        config = BertConfig(
            hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=1
        )
        BertForSequenceClassification(config).save_pretrained(folder)
        names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
        PreTrainedTokenizerFast(
            tokenizer_file=str(bundle.path("tokenizer.json")),
            model_max_length=512,
            **{f"{name}_token": token for name, token in names.items()},
        ).save_pretrained(folder)
        model = CrossEncoder(folder, device="cpu", max_length=512)
    return lambda each: model.predict([(each[0], document) for document in each[1]], show_progress_bar=False)


if __name__ == "__main__":
    sys.exit(main())
