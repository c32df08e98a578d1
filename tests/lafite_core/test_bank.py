import sys

import pytest
import torch

from lafite_core.bank import MemoryBank, neighbour_weights
from lafite_core.config import EditConfig
from lafite_core.errors import LafiteError


def vectors(count: int = 200, channels: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["faiss", "product"])
def search_with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to search; matrix products are what remains where faiss is not installed."""
    name: str = request.param
    if name == "product":
        monkeypatch.setitem(sys.modules, "faiss", None)
        monkeypatch.setattr("lafite_core.bank.SEARCH_ROWS", 16)
    return name


@pytest.mark.usefixtures("search_with")
def test_search_equals_brute_force() -> None:
    bank = MemoryBank(vectors())
    queries = vectors(50, seed=1)
    found = bank.search(queries, 7)
    exact = torch.cdist(queries.double(), bank.vectors.double())
    assert torch.equal(found.index, exact.topk(7, largest=False).indices)
    assert torch.allclose(found.distance.double(), exact.gather(1, found.index), atol=1e-6)


@pytest.mark.usefixtures("search_with")
def test_fewer_neighbours_are_a_prefix() -> None:
    bank = MemoryBank(torch.cat([vectors(), vectors()]))  # every vector twice: ties everywhere
    queries = vectors(30, seed=1)
    deep = bank.search(queries, 50)
    for k in (1, 2, 5, 12):
        small = bank.search(queries, k)
        assert torch.equal(deep.distance[:, :k], small.distance)
        edited = [bank.edit(n, EditConfig()) for n in (small, deep.first(k))]
        assert torch.equal(*edited)


@pytest.mark.usefixtures("search_with")
def test_one_neighbour_of_a_member_is_the_identity() -> None:
    bank = MemoryBank(vectors())
    found = bank.search(bank.vectors, 1)
    assert torch.equal(bank.edit(found, EditConfig()), bank.vectors)
    assert (found.distance == 0).all()


@pytest.mark.parametrize("kind", ["inverse_distance", "softmax", "uniform"])
def test_weights_sum_to_one_and_prefer_the_near(kind: str) -> None:
    distance = torch.tensor([[0.5, 1.0, 2.0], [3.0, 3.0, 3.0]])
    weights = neighbour_weights(distance, EditConfig(weights=kind))  # type: ignore[arg-type]
    assert torch.allclose(weights.sum(1), torch.ones(2))
    assert (weights[0].diff() <= 0).all()
    assert torch.allclose(weights[1], torch.full((3,), 1 / 3))


def test_inverse_distance_golden_value() -> None:
    weights = neighbour_weights(torch.tensor([[1.0, 3.0]]), EditConfig())
    assert torch.allclose(weights, torch.tensor([[0.75, 0.25]]))


def test_a_member_takes_all_inverse_distance_weight() -> None:
    weights = neighbour_weights(torch.tensor([[0.0, 1.0]]), EditConfig())
    assert weights.tolist() == [[1.0, 0.0]]


def test_bank_keeps_a_tenth() -> None:
    bank = MemoryBank.build(vectors(500), EditConfig(keep_rate=0.1), seed=0)
    assert len(bank) == 50


@pytest.mark.parametrize("k", [0, 11])
def test_more_neighbours_than_members_are_refused(k: int) -> None:
    with pytest.raises(LafiteError, match="memory bank of 10"):
        MemoryBank(vectors(10)).search(vectors(2), k)


def test_a_rate_of_one_keeps_every_distinct_patch_without_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("lafite_core.bank.greedy_coreset")
    patches = torch.cat([vectors(30), vectors(30)[:5]])
    bank = MemoryBank.build(patches, EditConfig(keep_rate=1.0), seed=0)
    assert torch.equal(bank.vectors, vectors(30))
