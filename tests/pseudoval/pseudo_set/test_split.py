"""The split is a function of content and split seed alone."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from pseudoval.errors import UserError
from pseudoval.pseudo_set.split import split_normals, split_sha256


def contents(count: int) -> dict[str, str]:
    return {f"{i:03}.png": hashlib.sha256(str(i).encode()).hexdigest() for i in range(count)}


def held_contents(hashes: dict[str, str], holdout: float = 0.25, seed: int = 0) -> set[str]:
    return {hashes[name] for name in split_normals(hashes, holdout, seed)}


@pytest.mark.parametrize(("count", "holdout", "held"), [(40, 0.25, 10), (10, 0.3, 3), (9, 0.5, 5)])
def test_share_is_reached(count: int, holdout: float, held: int) -> None:
    found = split_normals(contents(count), holdout, 0)
    assert len(set(found)) == len(found) == held and set(found) < set(contents(count))


def test_names_and_order_do_not_matter() -> None:
    hashes = contents(40)
    renamed = {f"z{100 - i}.bmp": pixels for i, pixels in enumerate(hashes.values())}
    backwards = dict(reversed(hashes.items()))
    assert held_contents(hashes) == held_contents(renamed) == held_contents(backwards)
    assert held_contents(hashes) != held_contents(hashes, seed=1)


def test_adding_an_image_moves_few_others() -> None:
    hashes = contents(40)
    more = held_contents({**hashes, "new.png": "f" * 64})
    assert len(held_contents(hashes) ^ more) <= 2


def test_duplicates_stay_on_one_side() -> None:
    hashes = contents(30)
    for i in range(15):
        hashes[f"copy{i}.png"] = hashes[f"{i:03}.png"]
    for seed in range(20):
        found = set(split_normals(hashes, 0.25, seed))
        assert not {hashes[n] for n in found} & {hashes[n] for n in hashes.keys() - found}
        assert 0.25 * 45 <= len(found) < 0.25 * 45 + 2


@pytest.mark.parametrize("holdout", [0.001, 0.25, 0.999])
def test_two_distinct_held_out_and_one_kept(holdout: float) -> None:
    hashes = contents(3)
    hashes["copy.png"] = hashes["000.png"]
    for seed in range(10):
        found = set(split_normals(hashes, holdout, seed))
        assert len({hashes[name] for name in found}) == 2
        assert len({hashes[name] for name in hashes.keys() - found}) == 1


def test_too_few_distinct_normals() -> None:
    hashes = contents(2)
    hashes.update({f"copy{i}.png": hashes["000.png"] for i in range(5)})
    with pytest.raises(UserError, match="Category 'a' has 7 normal images, 2 of them distinct"):
        split_normals(hashes, 0.25, 0, where="Category 'a'")


@pytest.mark.parametrize("holdout", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_share_out_of_range(holdout: float) -> None:
    with pytest.raises(UserError, match="between 0 and 1"):
        split_normals(contents(10), holdout, 0)


def test_split_hash_is_what_the_documented_shell_line_gives(tmp_path: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("there is no sha256sum on this system")
    for i in range(5):
        (tmp_path / f"{i}.png").write_text(f"image {i}")
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()]
    line = "sha256sum *.png | cut -d ' ' -f 1 | LC_ALL=C sort | sha256sum"
    printed = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, check=True)
    assert split_sha256(hashes) == printed.stdout.decode().split()[0]
    assert split_sha256(hashes) == split_sha256(reversed(hashes)) != split_sha256(hashes[1:])
