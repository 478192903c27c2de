"""How large a plain installation is: a fresh virtual environment, the package with its dependencies, no extras.

    python -m benchmarks.install_size

Counts what the installation adds to site-packages, compiled files included, pip and setuptools not. Needs nothing but
the standard library and an index of packages. Exit code 1 when it passes the limit or brings torch; the last line is
JSON.
"""

import json
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_MB = 250.0  # of 10^6 bytes
FORBIDDEN = ("torch", "transformers", "sklearn")
N_SHOWN = 8


def main() -> int:
    """Install, measure, print; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        venv.create(environment, with_pip=True)
        before = sizes(site_packages(environment))
        start = time.perf_counter()
        python = environment / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", ROOT], check=True
        )
        seconds = time.perf_counter() - start
        after = sizes(site_packages(environment))
    added = {name: size for name, size in after.items() if name not in before}
    for name, size in sorted(added.items(), key=lambda item: -item[1])[:N_SHOWN]:
        print(f"{size / 1e6:8.1f} MB  {name}")
    report = judge(added)
    print(json.dumps({"benchmark": "install_size", **report, "install_seconds": round(seconds, 1)}))
    return 0 if report["ok"] else 1


def judge(added: Mapping[str, int]) -> dict[str, object]:
    """The total against the limit, and packages that a plain installation must not have."""
    total = sum(added.values()) / 1e6
    unwanted = sorted(name for name in FORBIDDEN if name in added)
    return {
        "total_mb": round(total, 1),
        "limit_mb": LIMIT_MB,
        "unwanted": unwanted,
        "ok": total < LIMIT_MB and not unwanted,
    }


def site_packages(environment: Path) -> Path:
    """Where a virtual environment keeps its packages."""
    found = [path for path in environment.rglob("site-packages") if path.is_dir()]
    return found[0]


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of each entry of a folder, everything below it included; links count for nothing."""
    return {entry.name: _bytes(entry) for entry in folder.iterdir()}


def _bytes(entry: Path) -> int:
    files = [entry, *entry.rglob("*")] if entry.is_dir() else [entry]
    return sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    sys.exit(main())
