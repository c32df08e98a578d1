"""A database for the tests of storage."""

from collections.abc import Iterator

import postgres
import pytest


@pytest.fixture(scope="session")
def database() -> Iterator[postgres.Server]:
    """A PostgreSQL server; a skip where there is none."""
    with postgres.server() as running:
        yield running
