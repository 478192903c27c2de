"""A server of its own process, and what the system knows of its memory and time. Linux only."""

import os
import platform
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

START_S = 180.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """Of this machine, a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class ServerProcess:
    """Started and ready in a `with` block; ended with it.

    Args:
        options: of `relgrade serve`, or what follows the name of `module`.
        module: that is run instead of `relgrade serve`.
        port: None takes a free one.
        log: where its log goes; None: nowhere.
        environment: beside that of this process.
    """

    def __init__(
        self,
        options: Sequence[str] = (),
        *,
        module: str = "relgrade",
        port: int | None = None,
        log: IO[Any] | int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port() if port is None else port
        command = [sys.executable, "-m", module, *(["serve"] if module == "relgrade" else [])]
        self._command = [*command, "--port", str(self.port), *options]
        self._log = subprocess.DEVNULL if log is None else log
        self._environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self.deaths: list[tuple[float, float]] = []  # of time.monotonic: when it began to die, and when it was gone

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self.process is not None, "it was not started"
        return self.process.pid

    def start(self) -> None:
        """Start and wait until it is ready.

        Raises:
            RuntimeError: it ended, or took too long.
        """
        self.process = subprocess.Popen(self._command, stderr=self._log, stdout=self._log, env=self._environment)
        end_s = time.monotonic() + START_S
        while not is_ready(self.url):
            if time.monotonic() > end_s or self.process.poll() is not None:
                self.stop()
                raise RuntimeError("the server did not start")
            time.sleep(0.1)

    def kill(self) -> None:
        """As `kill -9` does."""
        assert self.process is not None, "it was not started"
        start_s = time.monotonic()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        self.deaths.append((start_s, time.monotonic()))

    def stop(self) -> None:
        """With SIGTERM; after a minute without it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def is_ready(url: str) -> bool:
    """Whether it says so."""
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=5):
            return True
    except (OSError, urllib.error.URLError):
        return False


def resident_mb(pid: int) -> float:
    """Resident memory, in MiB."""
    return _mb_of(Path(f"/proc/{pid}/status"), "VmRSS:")


def proportional_mb(pid: int) -> float:
    """The same, with pages that several processes share counted in parts."""
    return _mb_of(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def n_open_files(pid: int) -> int:
    """File descriptors, sockets among them."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def n_threads(pid: int) -> int:
    """Of the process."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def cpu_s(pid: int) -> float:
    """Processor time, of the user and of the system."""
    # The name of the program, in brackets, may hold blanks.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _mb_of(path: Path, name: str) -> float:
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"{path} has no {name}")


def machine() -> dict[str, Any]:
    """What a result was measured on, and how busy it was before."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor()
    return {"cores": os.cpu_count(), "processor": processor, "load_at_start": round(os.getloadavg()[0], 1)}
