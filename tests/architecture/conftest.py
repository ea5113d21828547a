"""Runs a test that takes a `member` once for every package of the workspace."""

import pytest

from workspace import members


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each `member` test every member, under its name."""
    if "member" in metafunc.fixturenames:
        metafunc.parametrize("member", members(), ids=lambda member: member.name)
