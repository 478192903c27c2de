"""From nothing to the first grade: fresh processes, timed from their start by the parent."""

import statistics
import subprocess
import sys
import time

_IMPORT = "import time; t = time.perf_counter(); import relgrade; print(time.perf_counter() - t)"
_FIRST = (
    "import time; from relgrade import Grader; "
    "Grader.load().grade('who built the harbour?', ['The harbour was built in 1840.']); print(time.process_time())"
)


def measure_start(*, repeats: int) -> dict[str, float]:
    """Medians in seconds: `import_s`, `first_grade_s` by the clock, `first_grade_cpu_s` by the processor."""
    imports = [float(_run(_IMPORT)) for _ in range(repeats)]
    walls, cpus = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        cpus.append(float(_run(_FIRST)))
        walls.append(time.perf_counter() - start)
    return {
        "import_s": round(statistics.median(imports), 3),
        "first_grade_s": round(statistics.median(walls), 3),
        "first_grade_best_s": round(min(walls), 3),
        "first_grade_cpu_s": round(statistics.median(cpus), 3),
    }


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
