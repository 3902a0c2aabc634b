"""Damaged files of every kind: what is read is data, and all else is refused by name. Nothing hangs, nothing is huge.

Of damaged checkpoints a run goes on from one that is whole, or says in a line which to delete: never from wrong
numbers.

`RDD_FUZZ` is how many times more damage is tried than usual: at 20 every loader reads 10,000 damaged archives,
and 2,000 more whose checksums are right.
"""

import io
import os
import resource
import shutil
import warnings
import zipfile
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from rdd_jax import datasets
from rdd_jax.app.checkpoint import Checkpoints, Saved
from rdd_jax.app.cli import main
from rdd_jax.datasets.preprocess import fit
from rdd_jax.errors import InputError
from rdd_jax.saving import SavedSet, foreign_set, load_set
from rdd_jax.types import Data, Splits, State, Synthetic, centred_one_hot

TIMES = float(os.environ.get("RDD_FUZZ", "1"))
GREW_MOST = 2**30
"""Bytes that the process may come to hold in addition."""

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 3, 2, 1), dtype=np.uint8)
LABELS = np.arange(6) % 2
FITTED = {kind: fit(kind, IMAGES / np.float32(255)) for kind in ("zca", "none")}


def npz_of_data():
    names = {"class_names": np.array(["a", "b"]), "group_names": np.array(["x", "y"]), "mirror": np.array(False)}
    return {
        "images": IMAGES,
        "labels": LABELS,
        "groups": LABELS[::-1],
        "test_images": IMAGES,
        "test_labels": LABELS,
    } | names


def npz_of_a_set():
    labels = centred_one_hot(LABELS, 2)
    return SavedSet(Synthetic(FITTED["zca"].apply(IMAGES), labels, LABELS + 1.0), FITTED["zca"], ("a", "b")).to_arrays()


def npz_from_elsewhere():
    return {"images": IMAGES, "labels": np.eye(2)[LABELS], "weights": LABELS + 1.0}


def is_data(file):
    """Whether the file is read as data; in another form than it was written perhaps, but a sound one."""
    splits = datasets.load(file)
    assert isinstance(splits, Splits)
    assert all(isinstance(part, Data) and np.isfinite(part.pixels).all() for part in splits[:3])


def is_set(file):
    found = load_set(file)
    assert len(found.synthetic.images) == len(found.synthetic.labels)
    found.to_arrays()


def is_foreign_set(file):
    for space in ("pixel", "model"):
        found = foreign_set(file, (3, 2, 1), 2, space, FITTED["none"])
        assert len(found.images) == len(found.labels)


def packed(arrays, compress):
    stream = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, **arrays)
    return stream.getvalue()


def damaged(rng, content):
    """The bytes with a few changed, cut short, a stretch removed or doubled, or another put in its place."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        start, stop = np.sort(rng.integers(0, len(content) + 1, 2))
        stop = min(stop, start + 64)
        match rng.integers(6):
            case 0:
                del content[int(start) :]
            case 1:
                del content[start:stop]
            case 2:
                content[start:stop] = content[start:stop] * 2
            case 3:
                content[start:stop] = rng.choice([b"\x00", b"\xff", b"9", b"("]) * int(stop - start)
            case _:
                for at in rng.integers(0, len(content), 3) if content else ():
                    content[at] = rng.integers(256)
        if not content:
            break
    return bytes(content)


def rewritten(rng, content):
    """An archive with one member damaged, and the checksum of the damage."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        hit = rng.choice(names)
        for name in names:
            member = old.read(name)
            # Headers are the first 128 bytes: half of the damage is there.
            head = 128 if rng.random() < 0.5 else len(member)
            new.writestr(name, damaged(rng, member[:head]) + member[head:] if name == hit else member)
    return stream.getvalue()


def one_line(error):
    assert len(str(error).splitlines()) == 1


def tried(read, file, contents):
    """Reads every content; what is raised is an `InputError` of one line that names the file."""
    outcomes = {True: 0, False: 0}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of codes that are numbered anew
        for i, content in enumerate(contents):
            file.write_bytes(content)
            try:
                read(file)
                outcomes[True] += 1
            except InputError as error:
                one_line(error)
                outcomes[False] += 1
            except Exception as error:
                kept = file.with_name(f"kept-{file.name}")
                kept.write_bytes(content)
                raise AssertionError(f"damage {i}, kept as {kept}") from error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before < GREW_MOST
    assert outcomes[False] > 0
    return outcomes


LOADERS = {
    "data": (npz_of_data, is_data),
    "set": (npz_of_a_set, is_set),
    "elsewhere": (npz_from_elsewhere, is_foreign_set),
}


@pytest.mark.parametrize("compress", [False, True], ids=["stored", "compressed"])
@pytest.mark.parametrize("how, times", [(damaged, 250), (rewritten, 50)])
@pytest.mark.parametrize("loader", LOADERS)
def test_damaged_archives_are_refused_by_name(loader, how, times, compress, tmp_path):
    write, read = LOADERS[loader]
    whole, rng = packed(write(), compress), np.random.default_rng(1)
    (tmp_path / "x.npz").write_bytes(whole)
    read(tmp_path / "x.npz")
    tried(read, tmp_path / "x.npz", (how(rng, whole) for _ in range(round(times * TIMES))))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif"])
def test_damaged_images_are_refused_by_name(suffix, tmp_path):
    root, rng = tmp_path / "pets", np.random.default_rng(1)
    pixels = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(pixels).save(root / name / f"{i}.{suffix}")
    file = root / "a" / f"0.{suffix}"
    whole = file.read_bytes()
    tried(
        lambda _: datasets.load(root, resize=4, mode="rgb"),
        file,
        (damaged(rng, whole) for _ in range(round(60 * TIMES))),
    )


dtypes = st.sampled_from(["u1", "f4", "f8", "f2", "i8", "u8", "?", "c8", "U3", "S2", "M8[s]", "O", "u1,f4"])
arrays = dtypes.flatmap(
    lambda kind: npst.arrays(
        "i8" if kind in ("O", "u1,f4", "M8[s]") else kind,
        npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    ).map(lambda array: array.astype(kind))
)
codes = st.lists(st.integers(-1, 3), min_size=6, max_size=6).map(np.array)
images = st.sampled_from([IMAGES, IMAGES / 255.0, IMAGES * 1.0, IMAGES[..., 0]])


@pytest.mark.parametrize("loader", LOADERS)
@settings(max_examples=round(20 * TIMES), deadline=None, derandomize=True)
@given(data=st.data())
def test_any_arrays_are_read_or_refused_by_name(loader, data, tmp_path_factory):
    write, read = LOADERS[loader]
    whole = write()
    changed = data.draw(st.dictionaries(st.sampled_from(sorted(whole)), st.one_of(arrays, codes, images), max_size=3))
    dropped = data.draw(st.sets(st.sampled_from(sorted(whole)), max_size=1))
    file = tmp_path_factory.mktemp("any") / "x.npz"
    np.savez(file, **{key: value for key, value in (whole | changed).items() if key not in dropped})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(file)
        except InputError as error:
            one_line(error)


# --- checkpoints ---------------------------------------------------------------------------------------


def saved(step):
    rng = np.random.default_rng(step)
    images = jnp.asarray(rng.standard_normal((20, 8, 8, 1)), jnp.float32)
    state = State({"images": images}, {}, {"moments": images**2}, jnp.asarray(step))
    return Saved(state, jnp.asarray(rng.integers(0, 9, 1300)), jnp.asarray(9), jnp.asarray(rng.random(1300)))


def restored(folder):
    """Of which step the state is, and every number of it."""
    checkpoints = Checkpoints(folder)
    found = checkpoints.restore(saved(0))
    checkpoints.close()
    step = int(found.state.step)
    jax.tree.map(np.testing.assert_array_equal, found, saved(step))
    return step


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of two checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (1, 2):
        checkpoints.save(saved(step))
    checkpoints.close()
    return folder


def flipped(rng, content):
    content = bytearray(content)
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    return bytes(content)


def put(content):
    return lambda rng, file, others: file.write_bytes(content(rng, file.read_bytes()))


def in_its_place(folder):
    def damage(rng, file, others):
        place = file.parent if folder else file
        shutil.rmtree(place) if folder else place.unlink()
        place.write_bytes(b"x") if folder else place.mkdir()

    return damage


DAMAGE = {
    "changed": put(damaged),
    "a bit flipped": put(flipped),
    "empty": put(lambda rng, content: b""),
    "cut": put(lambda rng, content: content[: rng.integers(len(content))]),
    "swapped": lambda rng, file, others: shutil.copyfile(others[rng.integers(len(others))], file),
    "deleted": lambda rng, file, others: file.unlink(),
    "its folder deleted": lambda rng, file, others: shutil.rmtree(file.parent),
    "a folder in its place": in_its_place(folder=False),
    "a file in the place of its folder": in_its_place(folder=True),
}


def emptied(folder):
    """Leaves nothing that can be read, whichever names TensorStore drew for its files."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.write_bytes(b"")


def broken(how, rng, newest):
    """Damages one file of the newest checkpoint, or of the older one now and then."""
    steps = sorted(newest.parent.iterdir())
    files = sorted(file for file in steps[-1 if rng.random() < 0.8 else 0].rglob("*") if file.is_file())
    file = files[rng.integers(len(files))]
    others = sorted(other for other in newest.parent.rglob("*") if other.is_file() and other != file)
    DAMAGE[how](rng, file, others)


# TensorStore's threads go on for a while after Orbax has raised, and then find nobody to tell.
LATE = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.thorough
@LATE
@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_checkpoint_is_as_it_was_or_refused_by_name(how, whole, tmp_path):
    rng, refused, folder = np.random.default_rng(0), [], tmp_path / "checkpoints"
    for _ in range(round(15 * TIMES)):
        shutil.copytree(whole, folder)
        broken(how, rng, folder / "2")
        try:
            assert restored(folder) in (1, 2)
        except InputError as error:
            one_line(error)
            refused.append(str(error))
            shutil.rmtree(folder / "2")
            assert restored(folder) == 1  # the remedy is true
        shutil.rmtree(folder)
    assert all(str(folder / "2") in line and "delete that folder to resume from" in line for line in refused)


@pytest.mark.thorough
@LATE
def test_damaged_runs_resume_to_the_same_bytes_or_are_refused_in_a_line(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", images=np.random.default_rng(0).random((40, 4, 4, 1)), labels=np.arange(40) % 2)
    quick = ["--ipc", "1", "--steps", "4", "--batch", "10", "--checkpoint-every", "2", "--no-baselines"]
    out = tmp_path / "run"
    assert main(["distill", "kip", "--data", str(tmp_path / "own.npz"), *quick, "--out", str(out)]) == 0
    expected = (out / "synthetic.npz").read_bytes()
    for name in ("report.json", "synthetic.npz"):
        (out / name).unlink()
    rng, codes = np.random.default_rng(1), []
    random = [*DAMAGE] * round(TIMES) if TIMES > 1 else ["a bit flipped"]
    damages = [emptied, shutil.rmtree, *(partial(broken, how, rng) for how in random)]
    for damage in damages:
        one = tmp_path / "one"
        shutil.copytree(out, one)
        damage(one / "checkpoints" / "4")
        capsys.readouterr()
        codes.append(main(["distill", "--resume", str(one)]))
        if codes[-1] == 2:
            assert len(capsys.readouterr().err.splitlines()) == 1
            shutil.rmtree(one / "checkpoints" / "4")
            assert main(["distill", "--resume", str(one)]) == 0
        assert (one / "synthetic.npz").read_bytes() == expected
        shutil.rmtree(one)
    assert {0, 2} == set(codes)


# --- what the system would not write -----------------------------------------------------------------


@pytest.mark.parametrize("most", [100, 1500, 4000])
def test_a_checkpoint_that_the_system_will_not_write_is_an_error_of_the_system(most, tmp_path):
    """Whoever finds out: Python, which makes the files about it, or TensorStore, which writes the arrays."""
    checkpoints, state = Checkpoints(tmp_path / "checkpoints"), saved(1)  # what that compiles can still be kept
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(OSError, match=r"a checkpoint cannot be written \(File too large\)") as caught:
            checkpoints.save(state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.filename == str(tmp_path / "checkpoints")


def test_a_file_in_the_place_of_the_folder_is_found_before_the_first_step(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(OSError, match="File exists"):
        Checkpoints(tmp_path / "checkpoints")


def test_mistakes_of_the_program_are_no_errors_of_the_system(tmp_path):
    with pytest.raises(ValueError, match=r"Unsupported (data )?type"):
        Checkpoints(tmp_path / "checkpoints").save(saved(1)._replace(loss=jax.ShapeDtypeStruct((3,), jnp.float32)))
