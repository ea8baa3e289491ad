"""Which engine is meant."""

from __future__ import annotations

import pytest

from ray_prep.engines import choose_engine
from ray_prep.errors import RecipeError


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "head.example:6379", "ray://head:10001", "[::1]:6379", "auto", "local"])
def test_addresses_of_clusters(address: str) -> None:
    """One given means Ray."""
    assert choose_engine("auto", address) == "ray"


@pytest.mark.parametrize("address", ["127.0.0.1", "x y", "http://127.0.0.1:8265", "https://head", "host:port", "ray://head", ""])
def test_what_can_be_no_address_is_a_wrong_argument(address: str) -> None:
    """Exit 2 before any work; where jobs are submitted is told from it."""
    with pytest.raises(RecipeError, match=r"--address .*: a cluster's is HOST:PORT") as caught:
        choose_engine("ray", address)
    assert ("ray job submit" in str(caught.value)) == address.startswith("http")
