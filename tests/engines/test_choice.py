"""Which engine is meant."""

from __future__ import annotations

import pytest

from ray_prep.engines import choose_engine
from ray_prep.errors import RecipeError


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "head.example:6379", "[::1]:6379", "auto", "local"])
def test_addresses_of_clusters(address: str) -> None:
    """One given means Ray."""
    assert choose_engine("auto", address) == "ray"


def test_a_client_of_a_cluster_is_told_what_runs() -> None:
    """Ray Data does not run through Ray Client."""
    with pytest.raises(RecipeError, match=r"^--address ray://head:10001: .*Ray Client; build on a machine of the cluster .* submit a job"):
        choose_engine("auto", "ray://head:10001")


@pytest.mark.parametrize("address", ["127.0.0.1", "x y", "http://127.0.0.1:8265", "https://head", "host:port", "head:x", ""])
def test_what_can_be_no_address_is_a_wrong_argument(address: str) -> None:
    """Exit 2 before any work; where jobs are submitted is told from it."""
    with pytest.raises(RecipeError, match=r"--address .*: a cluster's is HOST:PORT") as caught:
        choose_engine("ray", address)
    assert ("ray job submit" in str(caught.value)) == address.startswith("http")


def test_the_address_of_the_surroundings_is_held_to_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAY_ADDRESS is as often the place where jobs are submitted; an empty one is none, and local asks for none."""
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:8265")
    with pytest.raises(RecipeError, match=r"^RAY_ADDRESS=http://127.0.0.1:8265: a cluster's is HOST:PORT .*\(ray job submit"):
        choose_engine("auto")
    assert choose_engine("ray", "head:6379") == "ray"
    assert choose_engine("local") == "local"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert (choose_engine("ray"), choose_engine("auto")) == ("ray", "local")
