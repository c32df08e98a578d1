import sys

import pytest
import torch

from lafite_core import nearest
from lafite_core.bank import MemoryBank, neighbour_weights
from lafite_core.config import EditConfig
from lafite_core.errors import LafiteError
from lafite_core.nearest import product_search


def vectors(count: int = 200, channels: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["product", "faiss"])
def search_with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both forms of the search, each in small pieces."""
    if request.param == "faiss":
        pytest.importorskip("faiss")
    else:
        monkeypatch.setitem(sys.modules, "faiss", None)  # as where it is not installed
    monkeypatch.setattr(nearest, "ROWS", 16)
    monkeypatch.setattr(nearest, "TILE", 64)
    monkeypatch.setattr(nearest, "PAIRS", 10)


def brute_force(bank: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and rows of the whole bank in float64; equal ones in the order of the rows."""
    away = (queries.double()[:, None] - bank.double()[None]).square().sum(2)
    return away.sqrt().sort(dim=1, stable=True)


def lattice(side: int, channels: int) -> torch.Tensor:
    return torch.cartesian_prod(*[torch.arange(float(side))] * channels)


BANKS = {
    "plain": (vectors(), vectors(50, seed=1)),
    "far from the origin": (1000 + vectors(), 1000 + vectors(50, seed=1)),
    "every row twice": (torch.cat([vectors(), vectors()]), vectors(30, seed=1)),
    "one row only": (vectors(1).repeat(300, 1), vectors(5, seed=1)),
    "lattice": (lattice(4, 4)[torch.randperm(256)], lattice(4, 4)[::7] + 0.5),
    "lattice on itself": (lattice(3, 5), lattice(3, 5)[::5]),
    "constant channels": (
        torch.cat([vectors(), torch.full((200, 5), 3.0)], 1),
        torch.cat([vectors(50, seed=1), torch.full((50, 5), 3.0)], 1),
    ),
    "one channel": (vectors(channels=1), vectors(50, 1, seed=1)),
    "patches far from the members": (vectors(), 100 * vectors(50, seed=1)),
    "one member far from the others": (
        torch.cat([vectors(), torch.full((1, 16), 1e6)]),
        vectors(50, seed=1),
    ),
}


@pytest.mark.usefixtures("search_with")
@pytest.mark.parametrize("name", BANKS)
@pytest.mark.parametrize("k", [1, 2, 7, 50, 200])
def test_search_equals_brute_force(name: str, k: int) -> None:
    """The same members in the same order, also where the last is one of many equally far."""
    members, queries = BANKS[name]
    distance, order = brute_force(members, queries)
    found = MemoryBank(members).search(queries, k)
    assert torch.equal(found.index, order[:, :k])
    assert torch.equal(found.distance, distance[:, :k].float())


@pytest.mark.usefixtures("search_with")
@pytest.mark.parametrize("count", [1, 2, 9, 40, 300])
def test_all_members_and_nearly_all_are_found_in_order(count: int) -> None:
    """More than there are to spare, in banks smaller and larger than a tile."""
    members, queries = vectors(count), vectors(20, seed=1)
    distance, order = brute_force(members, queries)
    for k in {count, max(1, count - 1), max(1, count - 5)}:
        found = MemoryBank(members).search(queries, k)
        assert torch.equal(found.index, order[:, :k])
        assert torch.equal(found.distance, distance[:, :k].float())


@pytest.mark.usefixtures("search_with")
@pytest.mark.parametrize("threads", [1, 3])
def test_neighbours_do_not_depend_on_company_or_threads(threads: int) -> None:
    members, queries = vectors(500, 30), vectors(60, 30, seed=1)
    expected = MemoryBank(members).search(queries, 20)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size in (1, 7, 60):
            found = [MemoryBank(members).search(part, 20) for part in queries.split(size)]
            assert torch.equal(torch.cat([one.index for one in found]), expected.index)
            assert torch.equal(torch.cat([one.distance for one in found]), expected.distance)
    finally:
        torch.set_num_threads(before)


def test_a_product_never_holds_more_than_a_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, product = [], torch.addmm

    def watched(*arguments: torch.Tensor, **options: float) -> torch.Tensor:
        sizes.append(product(*arguments, **options).shape)
        return product(*arguments, **options)

    monkeypatch.setattr(nearest, "ROWS", 16)
    monkeypatch.setattr(nearest, "TILE", 64)
    monkeypatch.setattr(torch, "addmm", watched)
    product_search(vectors(1000), "cpu")(vectors(50, seed=1), 5)
    assert max(sizes) == (16, 64)


@pytest.mark.usefixtures("search_with")
@pytest.mark.parametrize("name", BANKS)
def test_fewer_neighbours_are_a_prefix(name: str) -> None:
    members, queries = BANKS[name]
    bank = MemoryBank(members)
    deep = bank.search(queries, 50)
    for k in (1, 2, 5, 12):
        small = bank.search(queries, k)
        assert torch.equal(deep.index[:, :k], small.index)
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
