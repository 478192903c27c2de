"""A bar that is on the terminal for as long as a `with` block runs, and nowhere when there is no terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self


class WithBar:
    """Base of what shows progress; `_bar` is started and stopped by the block, None draws nothing."""

    _bar: Any = None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
