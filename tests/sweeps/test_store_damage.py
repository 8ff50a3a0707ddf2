"""Stores that lost chunks or whose bytes changed: refused when opened, computed again by the same sweep."""

import re
import shutil
import warnings

import pytest
import xarray

from jaxreg.sweeps import _group, open_store
from jaxreg.sweeps._chunks import file_name
from tests.sweeps.stores import digest, finished, swept

RESULTS = ("w", "deep/bias", "deep/on", "zeros", "never", "half", "product")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "run.zarr"
    swept(path)
    return path


@pytest.fixture
def copy(whole, path):
    shutil.copytree(whole, path)
    return path


def flip(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


DAMAGES = {
    "lost": lambda file: file.unlink(),
    "a bit": flip,
    "cut short": lambda file: file.write_bytes(file.read_bytes()[:-3]),
    "empty": lambda file: file.write_bytes(b""),
    "garbage": lambda file: file.write_bytes(b"not a chunk"),
}


def chunk(path, array, box):
    """The file of a chunk; each box of these stores is one λ and all seeds."""
    return next(file for file in (path / file_name(array) / "c" / str(box)).rglob("*") if file.is_file())


@pytest.mark.parametrize("array", [*RESULTS, "lane_status"])
def test_damaged_chunks_are_computed_again(copy, array, written):
    """Those and no others, to the bytes of a store that nothing disturbed; a lost mark is no damage."""
    for box, damage in enumerate(DAMAGES.values()):
        damage(chunk(copy, array, box))
    count = len(DAMAGES) - (array == "lane_status")
    with pytest.warns(UserWarning, match=rf"run\.zarr is damaged: .* \({count}, such as .*computed again"):
        swept(copy)
    assert written == list(range(len(DAMAGES))) and digest(copy.parent) == finished()[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swept(copy)


def refusal(call):
    """The one sentence of a ValueError."""
    with pytest.raises(ValueError) as error:
        call()
    said = str(error.value)
    assert "\n" not in said and "run.zarr is damaged" in said, said
    return said


def test_an_opened_store_tells_of_damage(copy, whole):
    """A lost chunk at once, another when it is read."""
    for array in RESULTS:
        lost = chunk(copy, array, 3)
        lost.unlink()
        said = refusal(lambda: open_store(copy))
        assert f"1 of its {7 * len(RESULTS)} chunks are missing, such as {file_name(array)}/c/3" in said
        assert "run the same sweep" in said
        for name in list(DAMAGES)[1:]:
            shutil.copy(whole / lost.relative_to(copy), lost)
            DAMAGES[name](lost)
            data = open_store(copy)
            data[array][2].load()
            said = refusal(data[array].load)
            assert f"{file_name(array)}/c/3" in said and "run the same sweep" in said
        shutil.copy(whole / lost.relative_to(copy), lost)
    assert open_store(copy).load().identical(finished()[1])


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_damaged_marks_and_axes(copy, whole, damage):
    """A mark that is lost marks nothing; an axis cannot be computed again."""
    mark = chunk(copy, "lane_status", 3)
    DAMAGES[damage](mark)
    if damage == "lost":
        assert open_store(copy).attrs["done"] == 18
    else:
        assert "lane_status/c/3/0 is not as it was written" in refusal(lambda: open_store(copy))
    axis = copy / "lam" / "c" / "0"
    DAMAGES[damage](axis)
    before = digest(copy.parent)
    for call in (open_store, swept):
        said = refusal(lambda call=call: call(copy))
        assert re.search("its axis lam cannot be read: give another folder", said)
    assert digest(copy.parent) == before


def test_a_folder_named_like_a_leftover_is_left_alone(copy):
    (copy / "w" / "mine.partial").mkdir()
    (copy / "w" / "mine.partial" / "notes").write_text("mine")
    (copy / "w" / "c" / "0.d41d8cd98f00b204.partial").write_bytes(b"half")
    swept(copy)
    assert (copy / "w" / "mine.partial" / "notes").exists()
    assert not (copy / "w" / "c" / "0.d41d8cd98f00b204.partial").exists()


def test_a_store_without_checksums_can_be_read(path, monkeypatch):
    """As they were written before: chunks whose values are all equal are left out, and no damage."""
    with monkeypatch.context() as before:
        before.setattr(_group, "FORMAT", 1)
        before.setattr(_group, "_chunk_settings", dict)
        swept(path)
    shutil.rmtree(path / "zeros" / "c")
    xarray.testing.assert_identical(open_store(path).load(), finished()[1])
    held = digest(path.parent)
    with pytest.raises(
        ValueError, match=r"older jaxreg, without checksums: read it with .*open_store, and give"
    ):
        swept(path)
    assert digest(path.parent) == held
