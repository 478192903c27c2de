"""What is known of a teacher before it is asked anything: where it is, its name, how it is asked, its prices."""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relgrade.errors import InvalidSettings
from relgrade.label.requests import APIS, PATHS, Api
from relgrade.label.rubric import METHODS, Method, Rubric, Sampling

API_KEY_ENV = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Of a model, per million tokens, in the user's currency."""

    input: float
    output: float

    def __post_init__(self) -> None:
        if not (0.0 <= self.input < float("inf") and 0.0 <= self.output < float("inf")):
            raise InvalidSettings(f"a price is a number from 0, got {self.input!r} and {self.output!r}")

    def of(self, input_tokens: float, output_tokens: float) -> float:
        """Of a request, or of many."""
        return (input_tokens * self.input + output_tokens * self.output) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A model behind a server."""

    url: str  # base, as http://host:8000/v1
    model: str
    api: Api = "chat"
    method: Method | None = None  # None: the best the server can do, found out and remembered
    sampling: Sampling | None = None  # None: the rubric's
    api_key_env: str | None = None  # environment variable of the key; None: OPENAI_API_KEY, where it is safe to send
    price: Price | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidSettings(
                f"a teacher is the base URL of a server, as http://localhost:8000/v1, got {self.url!r}"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InvalidSettings("a teacher's URL holds no user, password or query; name the key's variable instead")
        if not self.model.strip():
            raise InvalidSettings("the name of the model is blank")
        if self.api not in APIS:
            raise InvalidSettings(f"api must be one of {', '.join(APIS)}, got {self.api!r}")
        if self.method is not None and self.method not in METHODS:
            raise InvalidSettings(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return self.url.rstrip("/") + PATHS[self.api]

    def methods(self, rubric: Rubric, *, n_samples: int = 1) -> tuple[Method, ...]:
        """What may be tried, best first.

        Raises:
            InvalidSettings: the rubric does not allow the method that was asked for.
        """
        if self.api != "chat":
            return ("text",)
        if self.method is not None:
            if self.method not in rubric.methods:
                raise InvalidSettings(f"rubric {rubric.name} is read by {', '.join(rubric.methods)}, not {self.method}")
            return (self.method,)
        # Logprobs are the same for every sample: asking for several means to draw.
        soft = rubric.methods if n_samples == 1 else tuple(item for item in rubric.methods if item != "logprobs")
        return soft or rubric.methods

    def api_key(self) -> str | None:
        """The key, read from the environment now; never stored.

        A key that nobody named for this server is not sent over plain http to another machine.

        Raises:
            InvalidSettings: the variable that was named is not set, or holds what a header cannot.
        """
        name = self.api_key_env or API_KEY_ENV
        key = os.environ.get(name, "").strip()
        if self.api_key_env is not None and not key:
            raise InvalidSettings(f"the environment variable {name} is not set; it must hold the teacher's key")
        if key and not (key.isascii() and key.isprintable()):
            raise InvalidSettings(f"the environment variable {name} holds characters that a key cannot have")
        if self.api_key_env is None and not (self.url.lower().startswith("https://") or self.is_local):
            return None
        return key or None

    @property
    def is_local(self) -> bool:
        """True where the server runs on this machine."""
        host = urlsplit(self.url).hostname or ""
        if host == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


def read_prices(path: Path | str) -> dict[str, Price]:
    """A price table: TOML, a table per model with `input` and `output` per million tokens.

    Raises:
        InvalidSettings: it cannot be read, or a price is missing or no number; names the model.
    """
    try:
        table: Mapping[str, Any] = tomllib.loads(Path(path).read_bytes().decode("utf-8"))
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidSettings(f"{path}: not TOML: {error}") from error
    prices = {}
    for model, row in table.items():
        numbers = row if isinstance(row, Mapping) else {}
        is_sound = set(numbers) == {"input", "output"} and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in numbers.values()
        )
        if not is_sound:
            raise InvalidSettings(
                f'{path}: ["{model}"] must hold `input` and `output`, the prices of a million tokens, got {row!r}'
            )
        prices[model] = Price(input=float(numbers["input"]), output=float(numbers["output"]))
    return prices
