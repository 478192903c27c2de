"""The contract tests of the adapters against the real frameworks, at the lowest and the newest supported versions.

    python -m benchmarks.contracts --folder FOLDER [--only langchain ...]

Each run gets a virtual environment below FOLDER, made once, with a wheel of this checkout: that the adapters are in the
wheel is part of the contract. Lowest versions are read from the extras in pyproject.toml. Needs the standard library
and an index of packages. Writes benchmarks/results/contracts.json and contracts.md; exit code 1 when a test fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import tomllib
import venv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
TOOLS = ("hypothesis>=6.100", "pytest>=8", "pytest-timeout>=2.3")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")
VERSIONS = "import sys, importlib.metadata as m; print(*[m.version(each) for each in sys.argv[1:]])"


@dataclass(frozen=True, slots=True)
class Contract:
    """A framework and the tests that hold it to its contract."""

    name: str  # of the extra, or of a recipe in docs/
    package: str
    tests: tuple[str, ...]
    besides: tuple[str, ...] = ()  # what the tests use of it beyond the extra, without a version
    has_lowest: bool = True  # a recipe promises the newest version alone


CONTRACTS = (
    Contract("langchain", "langchain-core", ("tests/test_integrations_langchain.py",), ("langchain-classic>=1.0.3",)),
    Contract("langgraph", "langgraph", ("tests/test_integrations_langgraph.py",)),
    Contract("llamaindex", "llama-index-core", ("tests/test_integrations_llamaindex.py",)),
    Contract("haystack", "haystack-ai", ("tests/test_integrations_haystack.py",)),
    Contract("mcp", "mcp", ("tests/test_integrations_mcp.py",)),
    Contract("dspy", "dspy", (), has_lowest=False),
    Contract("pydantic-ai", "pydantic-ai-slim", (), has_lowest=False),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one environment said."""

    name: str
    package: str
    which: str  # "lowest" or "newest"
    version: str  # installed; empty where the installation failed
    python: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether tests ran and none failed."""
        return self.passed > 0 and self.failed == 0 and not self.note


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the environments, run the tests, write the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the environments are made and kept")
    parser.add_argument("--only", nargs="*", choices=[each.name for each in CONTRACTS], help="default: all")
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    wheel = build_wheel(options.folder)
    outcomes = []
    for contract in CONTRACTS:
        if options.only and contract.name not in options.only:
            continue
        for which, requirements in runs(contract):
            outcome = measure(contract, which, requirements, folder=options.folder, wheel=wheel)
            outcomes.append(outcome)
            print(line(outcome), flush=True)
    if not options.only:
        plain = [{**asdict(outcome), "ok": outcome.is_ok} for outcome in outcomes]
        RESULTS.joinpath("contracts.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
        RESULTS.joinpath("contracts.md").write_text(table(outcomes), encoding="utf-8")
    print(json.dumps({"benchmark": "contracts", "ok": all(each.is_ok for each in outcomes), "runs": len(outcomes)}))
    return 0 if all(outcome.is_ok for outcome in outcomes) else 1


def runs(contract: Contract) -> Iterator[tuple[str, list[str]]]:
    """(which, requirements) of the environments of a framework."""
    if not contract.has_lowest:
        yield "newest", [contract.package]
        return
    with (ROOT / "pyproject.toml").open("rb") as file:
        (requirement,) = tomllib.load(file)["project"]["optional-dependencies"][contract.name]
    yield "lowest", [lowest(requirement), *contract.besides]
    yield "newest", [requirement, *contract.besides]


def lowest(requirement: str) -> str:
    """`name>=1.2,<2` as `name==1.2`."""
    found = re.fullmatch(r"([\w.\-\[\]]+)>=([\w.]+)(,.*)?", requirement)
    if found is None:
        raise SystemExit(f"contracts: {requirement!r} in pyproject.toml has no lowest version")
    return f"{found[1]}=={found[2]}"


def build_wheel(folder: Path) -> Path:
    """A wheel of this checkout."""
    for old in folder.glob("relgrade-*.whl"):
        old.unlink()
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], check=True
    )
    (wheel,) = folder.glob("relgrade-*.whl")
    return wheel


def measure(contract: Contract, which: str, requirements: list[str], *, folder: Path, wheel: Path) -> Outcome:
    """One environment: made where it is not there, then tested."""
    place = folder / f"{contract.name}-{which}"
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    version_of_python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not python.exists():
        venv.create(place, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*pip, str(wheel), *TOOLS, *requirements], capture_output=True, text=True, check=False)
    if installed.returncode == 0:  # the wheel of another commit may have the same version
        installed = subprocess.run(
            [*pip, "--force-reinstall", "--no-deps", str(wheel)], capture_output=True, text=True, check=False
        )
    if installed.returncode != 0:
        note = (installed.stderr.strip().splitlines() or ["no message"])[-1][:200]
        return Outcome(contract.name, contract.package, which, "", version_of_python, note=note)
    found = subprocess.run([python, "-c", VERSIONS, contract.package], capture_output=True, text=True, check=True)
    start = time.perf_counter()
    tests = [*contract.tests, "tests/test_integrations_docs.py"]
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-o",
            "addopts=",
            *tests,
            "-k",
            f"integrations_{contract.name} or page_of_{contract.name}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HAYSTACK_TELEMETRY_ENABLED": "False", "PYTHONPATH": ""},
    )
    counts = {word: int(number) for number, word in COUNT.findall(done.stdout)}
    (folder / f"{contract.name}-{which}.log").write_text(done.stdout + done.stderr, encoding="utf-8")
    return Outcome(
        contract.name,
        contract.package,
        which,
        found.stdout.strip(),
        version_of_python,
        counts.get("passed", 0),
        counts.get("failed", 0) + counts.get("error", 0),
        counts.get("skipped", 0),
        round(time.perf_counter() - start, 1),
        "" if done.returncode in (0, 1) else f"pytest ended with code {done.returncode}",
    )


def line(outcome: Outcome) -> str:
    """A row of the table."""
    says = "ok" if outcome.is_ok else outcome.note or "failed"
    cells = (outcome.name, outcome.package, outcome.which, outcome.version, outcome.python)
    counts = (outcome.passed, outcome.failed, outcome.skipped)
    return "| " + " | ".join(map(str, (*cells, *counts, says))) + " |"


def table(outcomes: Sequence[Outcome]) -> str:
    """The page that is committed."""
    names = "| adapter | package | which | version | Python | passed | failed | skipped | |"
    head = f"{names}\n|---|---|---|---|---|--:|--:|--:|---|"
    rows = "\n".join(line(outcome) for outcome in outcomes)
    return f"# Contract tests of the adapters\n\nWritten by `python -m benchmarks.contracts`.\n\n{head}\n{rows}\n"


if __name__ == "__main__":
    sys.exit(main())
