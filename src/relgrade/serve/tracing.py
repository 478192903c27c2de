"""Spans for OpenTelemetry where its API is installed, nothing otherwise. Exporters are the deployment's business."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

try:
    from opentelemetry import trace
except ImportError:
    trace = None  # type: ignore[assignment]


def span(name: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[Any]:
    """A span around a block; without a configured provider it costs next to nothing."""
    if trace is None:
        return nullcontext()
    return trace.get_tracer("relgrade").start_as_current_span(name, attributes=dict(attributes))
