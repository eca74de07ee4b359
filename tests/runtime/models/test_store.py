"""The store of model files: what is kept is whole and right, and what is in use stays."""

from __future__ import annotations

import hashlib
import itertools
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.errors import MissingFile, NotStored, WrongContent
from runtime.models.manifest import MANIFEST_NAME, StoredFile, load_manifest
from runtime.models.store import LEFT_BEHIND_S, ArtifactStore, StoredModel, manifest_file


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_store(directory: Path, max_bytes: int = 100) -> ArtifactStore:
    """A store whose clock counts its readings."""
    ticks = itertools.count(1)
    return ArtifactStore(directory, max_bytes, clock_ns=lambda: next(ticks))


def test_what_is_kept_is_read_back_by_another_process(tmp_path: Path) -> None:
    """A store is its directory: one made later finds the file, verified, whole and in parts."""
    make_store(tmp_path).keep(sha256(b"weights"), b"weights")
    later = make_store(tmp_path)
    assert later.has(sha256(b"weights"))
    assert later.read(sha256(b"weights")) == b"weights"
    parts = [later.read_part(sha256(b"weights"), offset, 3) for offset in (0, 3, 6)]
    assert [(part.data, part.num_bytes) for part in parts if part is not None] == [(b"wei", 7), (b"ght", 7), (b"s", 7)]
    assert later.read(sha256(b"other")) is None
    assert later.read_part(sha256(b"other"), 4, 3) is None


def test_wrong_bytes_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    """Bytes of another hash are the sender's error, and nothing is written."""
    store = make_store(tmp_path)
    with pytest.raises(WrongContent, match="expected"):
        store.keep(sha256(b"weights"), b"weighty")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"weight", b"weightz", b"weights and more"])
def test_a_damaged_file_counts_as_missing_and_goes(tmp_path: Path, damage: bytes) -> None:
    """Truncated, changed or grown: it is found out when read, or when its first part is, and removed."""
    name = sha256(b"weights")
    for read in (lambda store: store.read(name), lambda store: store.read_part(name, 0, 4)):
        store = make_store(tmp_path)
        store.keep(name, b"weights")
        (tmp_path / name).write_bytes(damage)
        assert read(store) is None
        assert not store.has(name)


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    """Reading makes a file recent; what makes room is the one that was used longest ago."""
    store = make_store(tmp_path, 30)
    first, second, third, fourth = (bytes([65 + index]) * 10 for index in range(4))
    for data in (first, second, third):
        store.keep(sha256(data), data)
    assert store.read(sha256(first)) == first
    store.keep(sha256(fourth), fourth)
    assert [store.has(sha256(data)) for data in (first, second, third, fourth)] == [True, False, True, True]


def test_a_store_full_of_what_is_in_use_says_so_and_keeps_it(tmp_path: Path) -> None:
    """Held files are never evicted: a file that has no room beside them is refused, and fits once they are released."""
    store = make_store(tmp_path, 20)
    held, big = b"h" * 10, b"b" * 15
    store.hold("load", [sha256(held)])
    store.keep(sha256(held), held)
    with pytest.raises(NotStored, match="in use"):
        store.keep(sha256(big), big)
    assert store.has(sha256(held))
    store.release("load")
    store.keep(sha256(big), big)
    assert (store.has(sha256(held)), store.has(sha256(big))) == (False, True)


def test_a_disk_that_takes_no_file_is_one_typed_error(tmp_path: Path) -> None:
    """Where the directory cannot be written, NotStored says why; there is no torn file."""
    blocked = tmp_path / "a file where the folder should be"
    blocked.write_bytes(b"")
    with pytest.raises(NotStored, match="cannot keep"):
        make_store(blocked / "store").keep(sha256(b"x"), b"x")


def test_a_write_that_breaks_off_halfway_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk, the system refuses the file's later bytes: one typed error, no torn file, and the store goes on."""
    store, data = make_store(tmp_path, 1 << 20), b"x" * (1 << 16)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, limits[1]))
    try:
        with pytest.raises(NotStored, match="cannot keep"):
            store.keep(sha256(data), data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    store.keep(sha256(data), data)
    assert store.read(sha256(data)) == data


def test_leftovers_of_dead_writers_are_swept_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    """A temporary file is removed once it is too old to be anybody's."""
    old, young = tmp_path / ".old", tmp_path / ".young"
    now_ns = int(2 * LEFT_BEHIND_S * 1e9)
    for path, at_ns in ((old, 0), (young, now_ns)):
        path.write_bytes(b"half")
        os.utime(path, ns=(at_ns, at_ns))
    ArtifactStore(tmp_path, 100, clock_ns=lambda: now_ns)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_model_folder_is_a_place_like_any_other(digits_model: Path, tmp_path: Path) -> None:
    """Every file that a folder's manifest names is there by its hash, the manifest too, and nothing is copied."""
    store = ArtifactStore(tmp_path, 100, [digits_model])
    info = load_manifest(digits_model).variants["fp32"]
    for file in [info.segments["0-1"], info.weights, manifest_file(digits_model)]:
        assert file is not None
        assert store.read(file.sha256) == (digits_model / file.path).read_bytes()
    assert manifest_file(digits_model).path == MANIFEST_NAME
    assert store.kept_bytes() == 0
    model = StoredModel(load_manifest(digits_model), store)
    with pytest.raises(MissingFile, match=r"lost\.onnx"):
        model.read(StoredFile(path="lost.onnx", sha256=sha256(b"lost"), num_bytes=4))


FILES = [bytes([65 + index]) * (5 * index + 1) for index in range(6)]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["keep", "read", "damage", "hold", "release"]), st.integers(0, len(FILES) - 1)), max_size=30
)


@settings(max_examples=60)
@given(operations=OPERATIONS, max_bytes=st.integers(10, 60))
def test_whatever_happens_the_store_is_bounded_right_and_keeps_what_is_held(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]], max_bytes: int
) -> None:
    """After any sequence: within its bound, what is read has the right bytes, and what is held and was there is there still."""
    directory = tmp_path_factory.mktemp("store")
    store, held, intact = make_store(directory, max_bytes), set[int](), set[int]()
    for operation, index in operations:
        data = FILES[index]
        match operation:
            case "keep":
                try:
                    store.keep(sha256(data), data)
                    intact.add(index)
                except NotStored:
                    stuck = [directory / sha256(FILES[other]) for other in held - {index}]
                    assert len(data) + sum(path.stat().st_size for path in stuck if path.exists()) > max_bytes
            case "read":
                assert store.read(sha256(data)) in (None, data)
            case "damage" if store.has(sha256(data)):
                (directory / sha256(data)).write_bytes(b"?")
                intact.discard(index)
            case "hold":
                store.hold(index, [sha256(data)])
                held.add(index)
            case "release":
                store.release(index)
                held.discard(index)
        assert store.kept_bytes() <= max_bytes
        intact = {other for other in intact if store.has(sha256(FILES[other]))} | (held & intact)
        assert all(store.has(sha256(FILES[other])) for other in held & intact)
