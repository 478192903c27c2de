"""Harm around a server while healthy clients ask it: no wrong grade, and nothing lost but what was in flight.

    python -m benchmarks.serve_faults [--only NAME]... [--output FILE.json]

Three clients ask, without a pause, requests whose logits the library has told before; every answer must have exactly
those. A row says what was done, what came of their requests, and what else was checked. Needs Linux; the row about
clocks needs libfaketime. The last line is JSON, and the exit status is 0 when every row is as it should be.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import fault_cases, fault_surroundings
from benchmarks.healthy_clients import Known
from relgrade.grade.grader import Grader

CASES: dict[str, Callable[[Known, Path], dict[str, Any]]] = {
    "kill": fault_cases.kill_and_restart,
    "memory-killer": fault_cases.process_dies,
    "reload": fault_cases.reload,
    "slow": fault_surroundings.slow_clients,
    "half-closed": fault_surroundings.half_closed,
    "gone": fault_surroundings.clients_leave,
    "worker": fault_cases.worker_dies,
    "stuck": fault_cases.model_hangs,
    "disk": fault_surroundings.disk_full,
    "cache-disk": fault_surroundings.cache_disk_full,
    "file-limit": fault_surroundings.file_limit,
    "log-reader": fault_surroundings.log_reader_gone,
    "clock": fault_surroundings.clock_jumps,
}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown."""
    titles = ("fault", "healthy answers", "wrong", "lost, in flight at a kill", "lost otherwise", "seen", "result")
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        if "skipped" in row:
            lines.append(f"| {row['fault']} | | | | | {row['skipped']} | skipped |")
            continue
        told = row["healthy"]
        lines.append(
            f"| {row['fault']} | {told['answered']} | {told['wrong']} | {told['lost_in_flight']} "
            f"| {told['lost_beyond']} | {'; '.join(row['seen'])} | {'ok' if row['ok'] else '**failed**'} |"
        )
    return "\n".join(lines)


def main() -> int:
    """0 when every row is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=sorted(CASES))
    parser.add_argument("--output", type=Path, help="For the rows as JSON; the table goes beside it, as .md.")
    arguments = parser.parse_args()
    known = Known(Grader.load())
    rows = []
    for name in arguments.only or CASES:
        with tempfile.TemporaryDirectory() as folder:
            row = CASES[name](known, Path(folder))
        rows.append({"name": name, **row})
        print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    if arguments.output:
        arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        arguments.output.with_suffix(".md").write_text(table(rows) + "\n", encoding="utf-8")
    is_ok = all(row.get("ok", True) for row in rows)
    print(json.dumps({"ok": is_ok, "rows": rows}))
    return 0 if is_ok else 1


if __name__ == "__main__":
    raise SystemExit(main())
