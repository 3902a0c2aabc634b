"""Images that stay in their files: what is read of them is what would have been in memory, and no more is."""

import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from PIL import Image

from rdd_jax import datasets
from rdd_jax.app.cli import main
from rdd_jax.arrays import Stored, read_npz, write_npz
from rdd_jax.errors import InputError
from rdd_jax.pixels import parts, rows_of

RNG = np.random.default_rng(0)
N, CLASSES = 120, 3
IMAGES = RNG.integers(0, 256, (N, 8, 8, 3), np.uint8)
LABELS = np.arange(N) % CLASSES
always = lambda size: True  # noqa: E731


def stored(path, images=IMAGES, name="images") -> Stored:
    write_npz(path, **{"labels": LABELS, name: images})
    return read_npz(path, leave=lambda key, size: key == name)[name]


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> Stored:
    return stored(tmp_path_factory.mktemp("left") / "own.npz")


INDICES = st.one_of(
    st.integers(-N, N - 1),
    st.slices(N),
    arrays_of.arrays(np.int64, st.integers(0, 30), elements=st.integers(-N, N - 1)),
    arrays_of.arrays(bool, N),
)


@given(INDICES, arrays_of.arrays(np.int64, st.integers(1, 50), elements=st.integers(0, N - 1)), INDICES)
def test_any_rows_are_those_of_the_array(left, index, chosen, second):
    np.testing.assert_array_equal(left[index], IMAGES[index])
    some = rows_of(left, chosen)
    assert (some.shape, some.ndim, some.size, some.nbytes, some.dtype) == (
        *((len(chosen), 8, 8, 3), 4, len(chosen) * 192, len(chosen) * 192, np.uint8),
    )
    within = second if isinstance(second, slice) else chosen % len(chosen)
    np.testing.assert_array_equal(some[within], IMAGES[chosen][within])
    np.testing.assert_array_equal(np.asarray(rows_of(some, within)), IMAGES[chosen][within])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", ">f8"])
def test_floating_point_images_stay_too(dtype, tmp_path):
    images = (IMAGES / 255).astype(dtype)
    left = stored(tmp_path / "own.npz", images)
    np.testing.assert_array_equal(left[5:9], images[5:9])
    np.testing.assert_array_equal(left.select(slice(5, 9))[1:], images[6:9])
    # JAX takes numbers in this machine's order of bytes alone.
    held = read_npz(tmp_path / "own.npz")["images"]
    assert left.dtype == left[:2].dtype == held.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(held, images)


def test_a_file_that_is_removed_is_still_read_by_whoever_has_it_open(tmp_path):
    left = stored(tmp_path / "own.npz")
    (tmp_path / "own.npz").unlink()
    np.testing.assert_array_equal(rows_of(left, np.array([3, 1]))[:], IMAGES[[3, 1]])


def test_looking_at_all_of_them_holds_a_part(tmp_path):
    few = stored(tmp_path / "own.npz", np.zeros((4000, 32, 32, 3), np.uint8))
    tracemalloc.start()
    for _ in parts(few, 100):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 100 * 32 * 32 * 3 < few.nbytes / 8


def test_arrays_whose_rows_cannot_be_read_are_named(tmp_path):
    np.savez_compressed(tmp_path / "small.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(InputError, match="holds 'images' compressed, so that rows cannot be read"):
        datasets.load(tmp_path / "small.npz", leave=always)
    np.savez(tmp_path / "turned.npz", images=np.asfortranarray(IMAGES), labels=LABELS)
    with pytest.raises(InputError, match="holds 'images' column by column"):
        datasets.load(tmp_path / "turned.npz", leave=always)
    np.savez(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    with pytest.raises(InputError, match=r"own.npz' are \(8, 8, 3\) and stay there: save them as \(4, 4, 3\)"):
        datasets.load(tmp_path / "own.npz", resize=4, leave=always)
    strange = (IMAGES / 255).astype(np.float32)
    strange[77, 3, 3] = np.nan
    np.savez(tmp_path / "strange.npz", images=strange, labels=LABELS)
    with pytest.raises(InputError, match="images hold 3 NaN or infinite pixels"):
        datasets.load(tmp_path / "strange.npz", leave=always)


def folder(path, grey=()):
    """A folder of images by class; the numbers of those that are grey."""
    for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (path / f"class{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0] if i in grey else image).save(path / f"class{label}" / f"{i:03}.png")
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RDD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


SOURCES = {
    "npz": lambda path: str(path / "own.npz") if not write_npz(path / "own.npz", images=IMAGES, labels=LABELS) else "",
    "folder": lambda path: str(folder(path / "own")),
    "grey first": lambda path: str(folder(path / "own", grey=range(40))),
    "grey": lambda path: str(folder(path / "own", grey=range(N))),
}


@pytest.mark.parametrize("source", SOURCES)
def test_splits_are_those_that_are_read_into_memory(source, tmp_path, cache):
    name = SOURCES[source](tmp_path)
    held, left = datasets.load(name, seed=3), datasets.load(name, seed=3, leave=always)
    for one, other in zip(held[:3], left[:3], strict=True):
        assert isinstance(other.images, Stored)
        np.testing.assert_array_equal(other.images, one.images)
        np.testing.assert_array_equal(other.labels, one.labels)
        np.testing.assert_array_equal(other.take(np.array([4, 1])).loaded, one.images[[4, 1]])


def test_a_folder_is_decoded_once_and_again_when_a_file_has_changed(tmp_path, cache, monkeypatch):
    name = folder(tmp_path / "own")
    datasets.load(name, leave=always)
    [copy] = cache.glob("own-*.npz")
    written = copy.stat().st_mtime_ns
    datasets.load(name, leave=always)
    assert [*cache.iterdir()] == [copy]
    assert copy.stat().st_mtime_ns == written
    os.utime(name / "class1" / "001.png", ns=(0, 7))
    datasets.load(name, leave=always)
    assert len([*cache.iterdir()]) == 2


def test_a_copy_that_the_disk_has_no_room_for_is_not_begun(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(
        InputError, match=r"images need 0.0 GiB when decoded, and '.*' has room for 0.0: give a smaller"
    ):
        datasets.load(folder(tmp_path / "own"), leave=always)
    assert not [*cache.iterdir()]


def test_a_run_that_the_disk_has_no_room_for_is_not_begun(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    words = ["distill", "kip", "--ipc", "100", "--steps", "2", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert "run' needs 0.0 GiB or more for checkpoints, and there is room for 0.0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_images_of_different_sizes_are_told_and_leave_nothing(tmp_path, cache):
    name = folder(tmp_path / "own")
    Image.fromarray(IMAGES[0, :5]).save(name / "class0" / "zz.png")
    with pytest.raises(InputError, match=r"120 of 8x8 \(such as .*\), 1 of 5x8 .*: give --resize 8"):
        datasets.load(name, leave=always)
    assert not [*cache.iterdir()]
    assert datasets.load(name, resize=4, leave=always).train.images.shape[1:] == (4, 4, 3)


def test_a_damaged_copy_says_that_it_can_go(tmp_path, cache):
    name = folder(tmp_path / "own")
    datasets.load(name, leave=always)
    [copy] = cache.iterdir()
    copy.write_bytes(copy.read_bytes()[:900])
    with pytest.raises(InputError, match="is a decoded copy: remove it, and it is made again"):
        datasets.load(name, leave=always)


# --- a run ---------------------------------------------------------------------------------------------

RUN = ["distill", "kip", "--ipc", "1", "--batch", "40", "--learners", "krr"]


def test_a_run_gives_the_same_bytes_wherever_the_images_stay(tmp_path):
    file = str(tmp_path / "own.npz")
    write_npz(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    sets = []
    for place in ("device", "host", "disk"):
        out = tmp_path / place
        assert main([*RUN, "--steps", "12", "--data", file, "--data-on", place, "--out", str(out)]) == 0
        sets.append((out / "synthetic.npz").read_bytes())
    assert sets[0] == sets[1] == sets[2]


def test_a_run_that_cannot_read_on_keeps_its_last_state_and_is_resumed(tmp_path, capsys, monkeypatch):
    file, out = tmp_path / "own.npz", tmp_path / "run"
    write_npz(file, images=IMAGES, labels=LABELS)
    whole, reads = file.read_bytes(), []
    read = Stored._read

    def failing(self, rows, into):
        reads.append(len(rows))
        if reads.count(400) == 3:
            os.truncate(file, 600)
        read(self, rows, into)

    monkeypatch.setattr(Stored, "_read", failing)
    words = [*RUN, "--steps", "30", "--data", str(file), "--data-on", "disk"]
    assert main([*words, "--out", str(out)]) == 2
    assert "own.npz' ends before row" in capsys.readouterr().err
    [step] = [int(folder.name) for folder in (out / "checkpoints").iterdir()]
    assert step == 20
    monkeypatch.setattr(Stored, "_read", read)
    file.write_bytes(whole)
    assert main(["distill", "--resume", str(out)]) == 0
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    assert (out / "synthetic.npz").read_bytes() == (tmp_path / "whole" / "synthetic.npz").read_bytes()
    assert len((out / "metrics.jsonl").read_text().splitlines()) == len(
        (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    )


def test_images_on_disk_are_not_shifted(tmp_path, capsys):
    write_npz(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    words = ["--data", str(tmp_path / "own.npz"), "--data-on", "disk", "--shift", "rare-invert"]
    assert main([*RUN, *words, "--out", str(tmp_path / "run")]) == 2
    assert "shift is 'rare-invert', but 0.0 GiB of images stay on disk" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_sets_are_evaluated_and_images_selected_from_files_that_memory_would_not_hold(tmp_path, monkeypatch):
    write_npz(tmp_path / "own.npz", images=IMAGES, labels=LABELS)
    file = ["--data", str(tmp_path / "own.npz")]
    assert main([*RUN, "--steps", "2", *file, "--out", str(tmp_path / "run")]) == 0
    found, load = [], datasets.load
    monkeypatch.setattr(datasets, "load", lambda *given: found.append(load(*given)) or found[-1])
    for share in (0.5, 0.0):
        monkeypatch.setattr("rdd_jax.app.reading.FULL", share)
        words = ["--out", str(tmp_path / f"{share}.json")]
        assert main(["evaluate", str(tmp_path / "run"), "--seeds", "2", *words]) == 0
        words = ["--out", str(tmp_path / f"chosen-{share}.npz")]
        assert main(["select", *file, "--method", "herding", "--ipc", "2", *words]) == 0
    assert [isinstance(splits.train.images, Stored) for splits in found] == [False, False, True, True]
    one, other = (json.loads((tmp_path / f"{share}.json").read_text())["evaluations"] for share in (0.5, 0.0))
    assert one == other
    for key, array in read_npz(tmp_path / "chosen-0.5.npz").items():
        np.testing.assert_array_equal(read_npz(tmp_path / "chosen-0.0.npz")[key], array)
