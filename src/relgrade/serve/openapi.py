"""The OpenAPI description."""

from fastapi import FastAPI


def describe(app: FastAPI) -> None:
    """Fill in what FastAPI cannot read from handlers of raw requests."""
