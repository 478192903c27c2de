"""The server beside the bare engine, on loopback, in the same run: throughput, latency by load, overload, fairness.

    python -m benchmarks.serve_load [--seconds 20] [--rounds 7] [--output FILE.json]

Requests hold 20 documents of 100 tokens, no two alike. The bare engine is `Grader.grade` on the same requests, one
after another, in this process, with as many threads as the server has. Both take turns in short slices, so that a
machine busy with other work is busy for both, and each ratio is the median over the turns. On a busy machine the system
gives more of its time to whoever has more threads, so the ratio of processor time a request stands beside that of
requests a second. The load generator is a third process that shares the cores; its part of the processor time is told.
The clock of a request runs from sending to the last byte, and covers all that arrive in a phase. The last line is JSON.
"""

import argparse
import json
import statistics
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from benchmarks.load_http import Bodies, Generator, Outcome
from benchmarks.server_process import ServerProcess, cpu_s, machine, resident_mb
from relgrade.grade.grader import Grader

PHASES = ("throughput", "latency", "overload", "fairness")
N_DOCUMENTS, N_WORDS = 20, 100
LONG_DOCUMENTS, SHORT_DOCUMENTS = 500, 3
N_CLIENTS = 4  # enough to keep the server busy
LOADS = (0.5, 0.8, 1.2)
OVERLOAD = 2.0
MIN_RATIO = 0.85  # asked of the server over the bare engine
MIN_GOODPUT = 0.9  # asked of the goodput at overload, over the peak
_PATIENCE_S = 120.0  # after so long, three turns must do
_WATCH_S = 0.2


class PeakMemory:
    """The largest resident memory of a process while a block runs."""

    def __init__(self, pid: int) -> None:
        self._pid, self._stop, self.mb = pid, threading.Event(), resident_mb(pid)
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stop.wait(_WATCH_S):
            self.mb = max(self.mb, resident_mb(self._pid))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def bare(grader: Grader, bodies: Bodies, *, seconds: float) -> tuple[float, float]:
    """Requests a second of the engine alone, and processor seconds of one."""
    made, n = bodies.made(), 0
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() - start_s < seconds:
        body = next(made)
        grader.grade(body["query"], body["documents"])
        n += 1
    return n / (time.perf_counter() - start_s), (time.process_time() - start_cpu_s) / n


def throughput(
    grader: Grader, server: ServerProcess, generator: Generator, *, n_documents: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Both in turns, on the same requests."""
    rows: list[dict[str, float]] = []
    end_s = time.monotonic() + _PATIENCE_S
    for turn in range(rounds):
        if turn >= 3 and time.monotonic() > end_s:
            break
        bodies = Bodies(100 + turn, n_documents, N_WORDS)
        bare_per_s, bare_cpu_s = bare(grader, bodies, seconds=seconds)
        before_s = cpu_s(server.pid)
        outcome = generator.closed(bodies, n_clients=N_CLIENTS, seconds=seconds)
        served_cpu_s = cpu_s(server.pid) - before_s
        rows.append(
            {
                "bare_per_s": bare_per_s,
                "served_per_s": outcome.goodput(),
                "ratio": outcome.goodput() / bare_per_s,
                "bare_cpu_s": bare_cpu_s,
                "cpu_ratio": bare_cpu_s * len(outcome.latencies_s) / served_cpu_s,
                "generator_share": outcome.cpu_s / (outcome.cpu_s + served_cpu_s),
            }
        )
        _tell("turn", rows[-1])
    medians = {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
    ratios = [round(row["ratio"], 3) for row in rows]
    return {**medians, "ratios": ratios, "ratio_ok": medians["ratio"] >= MIN_RATIO}


def latencies(generator: Generator, *, n_documents: int, seconds: float) -> dict[str, Any]:
    """At shares of the capacity, which is measured before each: on a busy machine it moves."""
    found = {}
    for i, load in enumerate(LOADS):
        capacity = generator.closed(
            Bodies(200 + i, n_documents, N_WORDS), n_clients=N_CLIENTS, seconds=seconds / 2
        ).goodput()
        per_s = load * capacity
        outcome = generator.open(Bodies(210 + i, n_documents, N_WORDS), per_s=per_s, seconds=seconds)
        found[f"{load:.0%}"] = {"sent_per_s": round(per_s, 2), **outcome.told()}
        _tell(f"load {load:.0%}", found[f"{load:.0%}"])
    return found


def overload(
    server: ServerProcess, generator: Generator, *, n_documents: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Twice what the server can do, each time between two peaks of the same minute."""
    before_mb = resident_mb(server.pid)
    peaks: list[float] = []
    outcomes: list[Outcome] = []

    def peak(seed: int) -> float:
        return generator.closed(Bodies(seed, n_documents, N_WORDS), n_clients=N_CLIENTS, seconds=seconds / 2).goodput()

    with PeakMemory(server.pid) as memory:
        peaks.append(peak(300))
        for turn in range(rounds):
            outcomes.append(
                generator.open(Bodies(310 + turn, n_documents, N_WORDS), per_s=OVERLOAD * peaks[-1], seconds=seconds)
            )
            peaks.append(peak(320 + turn))
            _tell("overload", {"peak_per_s": round(peaks[-1], 2), **outcomes[-1].told()})
    ratios = [outcome.goodput() / statistics.mean(peaks[i : i + 2]) for i, outcome in enumerate(outcomes)]
    ratio = statistics.median(ratios)
    all_statuses = {status for outcome in outcomes for status in outcome.statuses}
    return {
        "goodput_over_peak": round(ratio, 3),
        "goodput_ok": ratio >= MIN_GOODPUT,
        "ratios": [round(each, 3) for each in ratios],
        "only_answers_and_refusals": all_statuses <= {200, 429},
        "memory_mb": {"before": round(before_mb), "peak": round(memory.mb), "after": round(resident_mb(server.pid))},
        "turns": [outcome.told() for outcome in outcomes],
    }


def fairness(generator: Generator, *, n: int, rounds: int) -> dict[str, Any]:
    """Latency of short requests one after another, alone and while a long one runs, in turns."""
    rows: list[tuple[Outcome, Outcome, Outcome]] = []
    end_s = time.monotonic() + _PATIENCE_S
    for turn in range(rounds):
        if rows and time.monotonic() > end_s:
            break
        short = Bodies(400 + turn, SHORT_DOCUMENTS, N_WORDS)
        alone = generator.closed(short, n_clients=1, seconds=3)
        with_long, whole = generator.beside(short, Bodies(410 + turn, LONG_DOCUMENTS, N_WORDS), n=n)
        if not with_long.latencies_s or not whole.latencies_s:
            raise RuntimeError(f"nothing was answered: {with_long.statuses}, {whole.statuses}")
        rows.append((alone, with_long, whole))
    told = {
        "alone_p50_ms": [alone.quantile_ms(0.5) for alone, _, _ in rows],
        "beside_long_p50_ms": [with_long.quantile_ms(0.5) for _, with_long, _ in rows],
        "beside_long_p95_ms": [with_long.quantile_ms(0.95) for _, with_long, _ in rows],
        "long_ms": [whole.quantile_ms(0.5) for _, _, whole in rows],
    }
    found: dict[str, Any] = {name: round(statistics.median(values), 1) for name, values in told.items()}
    return {**found, "short_requests_beside": [len(with_long.latencies_s) for _, with_long, _ in rows]}


def measure(
    *, n_documents: int, seconds: float, rounds: int, phases: Sequence[str], options: Sequence[str]
) -> dict[str, Any]:
    """The phases, in their order."""
    grader = Grader.load()
    found: dict[str, Any] = {
        "machine": machine(),
        "request": {"documents": n_documents, "tokens_each": N_WORDS},
        "options": list(options),
    }
    # A long request may wait for others on a busy machine; what is measured is how long.
    with ServerProcess(["--timeout", "900", *options]) as server, Generator(server.url) as generator:
        bare(grader, Bodies(1, n_documents, N_WORDS), seconds=2)  # all warm
        generator.closed(Bodies(2, n_documents, N_WORDS), n_clients=N_CLIENTS, seconds=2)
        if "throughput" in phases:
            found["throughput"] = throughput(
                grader, server, generator, n_documents=n_documents, seconds=seconds / 4, rounds=rounds
            )
        if "latency" in phases:
            found["latency"] = latencies(generator, n_documents=n_documents, seconds=seconds)
        if "overload" in phases:
            found["overload"] = overload(server, generator, n_documents=n_documents, seconds=seconds, rounds=3)
        if "fairness" in phases:
            found["fairness"] = fairness(generator, n=20, rounds=2)
    return found


def table(found: dict[str, Any]) -> str:
    """For people."""
    lines = []
    if speed := found.get("throughput"):
        lines.append(
            f"server {speed['served_per_s']:.2f} requests/s, bare engine {speed['bare_per_s']:.2f}: ratio "
            f"{speed['ratio']:.2f} (by processor time {speed['cpu_ratio']:.2f}); load generator "
            f"{speed['generator_share']:.1%} of the processor time"
        )
    if latency := found.get("latency"):
        lines.append(f"{'load':>6}{'sent/s':>9}{'answered/s':>12}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}  statuses")
        for load, row in latency.items():
            lines.append(
                f"{load:>6}{row['sent_per_s']:9.2f}{row['answered_per_s']:12.2f}{row['p50_ms']:9.0f}"
                f"{row['p95_ms']:9.0f}{row['p99_ms']:9.0f}  {row['statuses']}"
            )
    if over := found.get("overload"):
        last = over["turns"][-1]
        lines.append(
            f"200 %: goodput {over['goodput_over_peak']:.2f} of the peak, {last['statuses']}, refused after "
            f"{last.get('refusal_p50_ms', float('nan')):.0f} ms (p95 {last.get('refusal_p95_ms', float('nan')):.0f} "
            f"ms), memory {over['memory_mb']['before']} -> {over['memory_mb']['peak']} MB"
        )
    if fair := found.get("fairness"):
        lines.append(
            f"{SHORT_DOCUMENTS} documents: {fair['alone_p50_ms']:.0f} ms alone, {fair['beside_long_p50_ms']:.0f} ms "
            f"beside {LONG_DOCUMENTS} documents, which take {fair['long_ms']:.0f} ms"
        )
    return "\n".join(lines)


def _tell(what: str, numbers: dict[str, Any]) -> None:
    told = {name: round(value, 3) if isinstance(value, float) else value for name, value in numbers.items()}
    print(f"{what}: {json.dumps(told)}", flush=True)


def main() -> None:
    """Print and perhaps write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="Of a phase; a turn of the throughput has a quarter."
    )
    parser.add_argument("--rounds", type=int, default=7, help="Turns of the throughput.")
    parser.add_argument(
        "--option", action="append", default=[], help="Of relgrade serve, as --option=--batch-tokens=512."
    )
    parser.add_argument("--documents", type=int, default=N_DOCUMENTS, help="Of a request; fewer for a slow machine.")
    parser.add_argument("--only", action="append", choices=PHASES, help="Phases; default: all.")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = measure(
        n_documents=arguments.documents,
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        phases=arguments.only or PHASES,
        options=arguments.option,
    )
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(found))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
