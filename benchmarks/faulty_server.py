"""`relgrade serve` around the embedded grader, with a model that fails where a document says so. For serve_faults.

    python -m benchmarks.faulty_server --port PORT [--timeout SECONDS]

A document with "raiseword" raises MemoryError, with "exitword" ends the thread that reads it, with "hangword" never
comes back, and with "dieword" kills the process, as the system does when memory is short.
"""

import argparse
import os
import signal
import threading
from collections.abc import Sequence

from relgrade.grade.runtime import Runtime, RuntimeOutput
from relgrade.serve import ModelRack, ServeSettings, create_app, load_bundle_and_runtime, open_socket, run_server


class FaultyRuntime:
    """Hands on to a sound runtime what no word forbids."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """Logits, or what the words ask for."""
        words = {word for _, document in pairs for word in document.split() if word.endswith("word")}
        if "dieword" in words:
            os.kill(os.getpid(), signal.SIGKILL)
        if "exitword" in words:
            raise SystemExit(1)
        if "raiseword" in words:
            raise MemoryError
        if "hangword" in words:
            threading.Event().wait()
        return self._runtime.score(pairs)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As the sound runtime does."""
        return self._runtime.count_tokens(texts)


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--timeout", type=float, default=30.0)
    arguments = parser.parse_args()
    settings = ServeSettings(port=arguments.port, timeout_s=arguments.timeout)
    bundle, runtime = load_bundle_and_runtime(None)
    rack = ModelRack({"default": None}, load=lambda source: (bundle, FaultyRuntime(runtime)))
    run_server(create_app(rack, settings), bound=open_socket(settings))
    os._exit(0)  # a thread that hangs would be waited for


if __name__ == "__main__":
    main()
