"""Cost as work grows: pairs streamed through `Grader.grade_pairs`, memory and time a pair at each size.

Pairs are short and their documents repeat, so that a million fit in minutes: what is shown is that nothing piles up,
not how fast a pair is.
"""

import time
from collections.abc import Iterator
from pathlib import Path

from relgrade.grade.grader import Grader

N_DOCUMENTS = 2000


def pairs_of(n: int) -> Iterator[tuple[str, str]]:
    """Short pairs; a document returns after `N_DOCUMENTS` pairs, with another query."""
    for i in range(n):
        document = i % N_DOCUMENTS
        yield f"who built harbour {i // N_DOCUMENTS}", f"Harbour {document} was built by merchants."


def resident_mb() -> float:
    """Of this process now, in 2^20 bytes; nan where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return float("nan")
    return pages * 4096 / 2**20


def measure_growth(sizes: list[int], *, n_threads: int = 1) -> list[dict[str, float]]:
    """One row a size: pairs, CPU and wall microseconds a pair, memory after it."""
    grader = Grader.load(n_threads=n_threads)
    rows = []
    for n in sizes:
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in grader.grade_pairs(pairs_of(n)):
            pass
        rows.append(
            {
                "pairs": n,
                "cpu_us_a_pair": round((time.process_time() - cpu) / n * 1e6, 1),
                "wall_us_a_pair": round((time.perf_counter() - wall) / n * 1e6, 1),
                "resident_mb": round(resident_mb(), 1),
            }
        )
    return rows
