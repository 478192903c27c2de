"""Whether the time that a key takes to be refused tells how much of it is right.

Wrong keys whose first character is wrong are timed against wrong keys whose last character is, and both also by `==`,
which stops at the first difference and shows what the test can see. The two kinds take turns in random order, so that
a busy machine is busy for both; each block of calls has a new string, as the place of one in memory counts for more
than a comparison does.

Welch's t, as in the test of leakage of Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?", 2017: on
the times below a percentile of all, so that interrupts do not drown the difference. A leak is |t| > 4.5 there.
"""

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.serve.keys import Keyring

N_BLOCKS, N_CALLS = 20_000, 10
PERCENTILE = 70.0  # of both sides together; slower blocks were interrupted
LIMIT = 4.5
LENGTHS = (32, 4096)  # of the keys: the longer, the more a comparison that stops early gives away
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def measure(*, seed: int) -> dict[str, Any]:
    """Student's t and the mean times, of the keyring and of a comparison that leaks; name -> row."""
    rng = random.Random(seed)
    found: dict[str, Any] = {}
    for length in LENGTHS:
        key = "".join(rng.choice(_CHARACTERS) for _ in range(length))
        ring = Keyring({"one": key, "two": key[::-1]}, admin_key=key[1:] + "a")
        found[f"the keyring, {length}"] = _test(ring.identify, key, rng)
        found[f"==, {length}"] = _test(lambda sent, key=key: sent == key, key, rng)  # type: ignore[misc]
    return found


def table(found: dict[str, Any]) -> str:
    """A way of comparing a row."""
    lines = [f"{'compared by':24}{'wrong first':>13}{'wrong last':>13}{'difference':>13}{'t':>8}"]
    for name, row in found.items():
        means = f"{row['first_ns']:>11.1f}ns{row['last_ns']:>11.1f}ns{row['last_ns'] - row['first_ns']:>11.1f}ns"
        lines.append(f"{name:24}{means}{row['t']:>8.2f}")
    return "\n".join(lines)


def _test(call: Callable[[str], object], key: str, rng: random.Random) -> dict[str, Any]:
    order = [True, False] * N_BLOCKS
    rng.shuffle(order)
    times: dict[bool, list[float]] = {True: [], False: []}
    for is_first in order:
        wrong = rng.choice("-_.:;")
        sent = wrong + key[1:] if is_first else key[:-1] + wrong
        start = time.perf_counter_ns()
        for _ in range(N_CALLS):
            call(sent)
        times[is_first].append((time.perf_counter_ns() - start) / N_CALLS)
    both = {name: np.array(values) for name, values in times.items()}  # (N_BLOCKS,) nanoseconds a call
    limit = np.percentile(np.concatenate(list(both.values())), PERCENTILE)
    kept = {name: values[values <= limit] for name, values in both.items()}
    t = _welch(kept[True], kept[False])
    return {
        "first_ns": round(float(kept[True].mean()), 2),
        "last_ns": round(float(kept[False].mean()), 2),
        "t": round(t, 2),
        "is_leak": abs(t) > LIMIT,
        "calls": 2 * N_BLOCKS * N_CALLS,
    }


def _welch(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Welch's t of the difference b - a."""
    spread = a.var(ddof=1) / a.size + b.var(ddof=1) / b.size
    return float((b.mean() - a.mean()) / np.sqrt(spread))
