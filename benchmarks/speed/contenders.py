"""The contenders' processes: started, asked in turn, stopped."""

import json
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.lists import QueryList

WORKER = Path(__file__).with_name("worker.py")
OURS = (
    "relgrade default",
    "relgrade nano",
    "relgrade pairs, float",
    "relgrade pairs, two-digit",
    "relgrade pairs, the int8 file",
)
PEERS = (
    "sentence-transformers torch",
    "sentence-transformers int8",
    "transformers pipeline",
    "flashrank int8",
    "fastembed int8",
    "onnxruntime int8",
)
INFINITY = ("infinity torch", "infinity int8")


class Contender:
    """One worker process.

    Args:
        name: as `worker.load` knows it.
        python: of the environment it runs in.
        folder: of `weights.make_all`.
        n_threads: of the model.
    """

    def __init__(self, name: str, python: str, *, folder: Path, n_threads: int) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed in stop
        command = [python, str(WORKER), name, str(folder), str(n_threads)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
        )
        self.load_s: float = self._answer()["load_s"]

    def time(self, lists: Sequence[QueryList]) -> dict[str, Any]:
        """`wall` and `cpu`, seconds of each list, and `peak_mb` of the process so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"lists": lists}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = self._errors.read().strip().splitlines()[-1:] or ["no reason given"]
            raise RuntimeError(f"{self.name}: {last[0]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def start_all(pythons: Mapping[str, str], *, folder: Path, n_threads: int) -> tuple[list[Contender], dict[str, str]]:
    """Those that start, and why the others did not."""
    started, failed = [], {}
    for name, python in pythons.items():
        try:
            started.append(Contender(name, python, folder=folder, n_threads=n_threads))
        except (RuntimeError, OSError) as error:
            failed[name] = str(error)[:300]
    return started, failed


def race(
    contenders: Sequence[Contender], lists: Mapping[str, Sequence[QueryList]], *, rounds: int, reference: str
) -> dict[str, dict[str, Any]]:
    """Ask everybody for the same lists in turn, list by list, so that a busy minute is busy for all.

    Args:
        contenders: started.
        lists: by kind.
        rounds: times each list is asked for; one more comes before, to warm up.
        reference: contender the ratios are taken to, list by list and round by round.
    """
    samples: dict[str, dict[str, list[dict[str, Any]]]] = {
        each.name: {kind: [] for kind in lists} for each in contenders
    }
    for each in contenders:
        each.time(next(iter(lists.values()))[:1])
    for _ in range(rounds):
        for kind, of_kind in lists.items():
            for one in of_kind:
                for each in contenders:
                    samples[each.name][kind].append(each.time([one]))
    found: dict[str, dict[str, Any]] = {}
    for each in contenders:
        rows = {kind: _summary(of_kind) for kind, of_kind in samples[each.name].items()}
        for kind, row in rows.items():
            base = samples.get(reference, samples[each.name])[kind]
            for clock in ("wall", "cpu"):
                ratios = [b[clock][0] / s[clock][0] for b, s in zip(base, samples[each.name][kind], strict=True)]
                row[f"{clock}_ratio"] = [round(value, 2) for value in _quartiles(ratios)]
        found[each.name] = {**rows, "peak_mb": _peak(samples[each.name]), "load_s": round(each.load_s, 2)}
    return found


def _summary(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    wall = sorted(sample["wall"][0] for sample in samples)
    cpu = [sample["cpu"][0] for sample in samples]
    return {
        "pairs_a_second": round(20 / statistics.mean(wall), 1),
        "pairs_a_cpu_second": round(20 / statistics.median(cpu), 1),
        "p50_ms": round(statistics.median(wall) * 1000, 1),
        "p95_ms": round(wall[min(len(wall) - 1, int(0.95 * len(wall)))] * 1000, 1),
        "lists": len(wall),
    }


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    lower, middle, upper = statistics.quantiles(values, n=4, method="inclusive")
    return middle, lower, upper


def _peak(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> float:
    peaks = [float(sample["peak_mb"]) for of_kind in samples.values() for sample in of_kind]
    return round(max(peaks), 1)
