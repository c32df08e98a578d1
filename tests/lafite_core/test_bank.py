import time
from collections.abc import Callable

import pytest
import torch

from lafite_core import bank, nearest, ranking
from lafite_core.bank import MemoryBank, neighbour_weights
from lafite_core.config import EditConfig
from lafite_core.errors import LafiteError
from lafite_core.nearest import Search, checked_search, folded_search


def vectors(count: int = 200, channels: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["integers", "product", "topk", "faiss"])
def search_with(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every form of the search, alone, and small pieces of each."""
    name: str = request.param
    if name == "faiss":
        pytest.importorskip("faiss")
    if name == "integers" and nearest.integer_scan(vectors()) is None:
        pytest.skip("products of integers are not exact here")
    monkeypatch.setattr(MemoryBank, "_fastest", lambda bank, *_: form(name, bank.vectors))
    monkeypatch.setattr(nearest, "SEARCH_ROWS", 16)
    monkeypatch.setattr(nearest, "SCAN_ROWS", 16)
    monkeypatch.setattr(nearest, "TILE", 64)
    monkeypatch.setattr(nearest, "FOLD", 4)
    monkeypatch.setattr(ranking, "RANK_PAIRS", 10)
    return name


def form(name: str, members: torch.Tensor) -> Search:
    plain = checked_search(members, nearest.rough_product(members, "cpu"))
    if name == "topk":
        return plain
    if name == "faiss":
        rough = nearest.rough_faiss(members)
        assert rough is not None
        return checked_search(members, rough)
    scan = nearest.integer_scan(members) if name == "integers" else nearest.product_scan(members)
    return plain if scan is None else folded_search(members, scan, plain)


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


def features(count: int, seed: int) -> torch.Tensor:
    """Vectors whose channels depend on each other, as those of real features do."""
    return vectors(count, 10, seed) @ vectors(10, 64, 99) + 0.1 * vectors(count, 64, seed + 1)


def never(patches: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    raise AssertionError(f"{len(patches)} patches were left to the other search")


@pytest.mark.parametrize("name", ["integers", "product"])
def test_folds_alone_find_the_nearest_of_a_bank_of_usual_size(name: str) -> None:
    members, queries = features(9000, 0), features(60, 2)
    scan = nearest.integer_scan(members) if name == "integers" else nearest.product_scan(members)
    if scan is None:
        pytest.skip("products of integers are not exact here")
    search = folded_search(members, scan, never)
    distance, order = brute_force(members, queries)
    for k in (1, 50):
        found, rows = search(queries, k)
        assert torch.equal(rows, order[:, :k])
        assert torch.equal(found.float(), distance[:, :k].float())


def test_what_codes_leave_open_is_searched_otherwise() -> None:
    """Most members so close together, beside those far away, that they share their codes."""
    members = torch.cat([vectors(3000), 1e4 * vectors(100, seed=2)])
    scan = nearest.integer_scan(members)
    if scan is None:
        pytest.skip("products of integers are not exact here")
    plain, asked = checked_search(members, nearest.rough_product(members, "cpu")), []

    def otherwise(patches: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        asked.append(k)
        return plain(patches, k)

    queries = vectors(20, seed=1)
    _, rows = folded_search(members, scan, otherwise)(queries, 5)
    assert asked == [5]
    assert torch.equal(rows, brute_force(members, queries)[1][:, :5])


def test_a_few_members_far_out_do_not_spoil_the_codes() -> None:
    members = torch.cat([features(9000, 0), 1e4 * features(20, 4)])
    scan = nearest.integer_scan(members)
    if scan is None:
        pytest.skip("products of integers are not exact here")
    queries = torch.cat([features(60, 2), members[-3:] + 1])
    search = folded_search(members, scan, never)
    found, rows = search(queries[:60], 20)
    distance, order = brute_force(members, queries)
    assert torch.equal(rows, order[:60, :20])
    assert torch.equal(found.float(), distance[:60, :20].float())
    plain = checked_search(members, nearest.rough_product(members, "cpu"))
    assert torch.equal(folded_search(members, scan, plain)(queries, 20)[1], order[:, :20])


def test_codes_never_exclude_a_member_that_is_near_enough() -> None:
    """At the distance of a member its value is no greater than the threshold; so with products."""
    members, queries = features(500, 0), 3 * features(30, 2)
    distance = brute_force(members, queries)[0]
    order = brute_force(members, queries)[1]
    for scan in (nearest.integer_scan(members), nearest.product_scan(members)):
        if scan is None:
            continue
        scanned = scan(queries)
        for place in (0, 7, 100, 499):
            high = scanned.threshold(distance[:, place]).numpy()
            found = scanned.between(None, high, len(queries) * 600)
            assert found is not None
            held = set(zip(*(part.tolist() for part in found), strict=True))
            near = order[:, : place + 1]
            assert all((row, int(m)) in held for row in range(len(near)) for m in near[row])


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


@pytest.mark.parametrize("slow", ["product_scan", "integer_scan", "rough_faiss"])
def test_the_faster_form_of_the_search_is_taken(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = getattr(bank, slow), []
    if honest(vectors()) is None:
        pytest.skip(f"there is no {slow} here")

    def slowly(members: torch.Tensor) -> Callable[..., object]:
        search = honest(members)

        def waiting(patches: torch.Tensor, *k: int) -> object:
            calls.append(len(patches))
            time.sleep(0.05)
            return search(patches, *k)

        return waiting

    monkeypatch.setattr(bank, slow, slowly)
    held = MemoryBank(vectors())
    first = held.search(vectors(50, seed=1), 3)
    tried = len(calls)
    assert tried > 0
    assert torch.equal(held.search(vectors(50, seed=1), 3).index, first.index)
    assert len(calls) == tried
