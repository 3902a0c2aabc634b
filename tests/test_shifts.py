"""Group shifts: exact counts by class and group, what happens to the pixels, and names."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from rdd_jax.datasets import shifts
from rdd_jax.datasets.shifts import PALETTE, SHIFTS, TWO, shift_by_name
from rdd_jax.errors import InputError
from rdd_jax.types import Data, Splits

RGB = np.array(list(PALETTE.values()))
COLOURS = tuple(PALETTE)


def part(sizes, channels=1, side=4, seed=0, dtype=np.uint8, mirror=True):
    """``sizes[y]`` random images of class ``y``, shuffled."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
    images = rng.integers(0, 256, (len(labels), side, side, channels), dtype=np.uint8)
    images = images if dtype == np.uint8 else (images / 255).astype(dtype)
    return Data(images, labels, tuple(f"c{c}" for c in range(len(sizes))), mirror=mirror)


def splits(train=(30, 41, 20, 25), validation=(10, 7, 10, 12), test=(12, 13, 16, 21), **keywords):
    return Splits(*(part(sizes, seed=i, **keywords) for i, sizes in enumerate((train, validation, test))), "made")


def channels(name):
    return 3 if name == "grey" else 1


def cells(data):
    """``[class, group]`` counts."""
    assert data.groups is not None
    table = np.zeros((data.classes, len(data.group_names)), int)
    np.add.at(table, (data.labels, data.groups), 1)
    return table


def rows(images):
    return [image.tobytes() for image in images]


# --- the contract ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("name", SHIFTS)
def test_every_shift_keeps_its_contract(name, dtype):
    mirror = dtype != np.uint8
    given = splits(channels=channels(name), dtype=dtype, mirror=mirror)
    before = [data.images.copy() for data in given[:3]]
    shift = shift_by_name(name, bias=0.8, share=0.2)
    out, same, other = shift(0, given), shift(0, given), shift(1, given)
    shown = "colour-foreground" if name == "two-colours" else name  # the same shift with another palette
    assert out.name == ("made" if name == "none" else f"made {shown}")
    for data, again, images, kept in zip(out[:3], same[:3], before, given[:3], strict=True):
        np.testing.assert_array_equal(kept.images, images)
        if name not in ("none", "hidden-strata", "long-tail"):  # those touch no pixel
            assert data.images.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
        assert data.labels.dtype == np.int32
        assert data.mirror == mirror
        assert (data.images.tobytes(), data.labels.tobytes()) == (again.images.tobytes(), again.labels.tobytes())
        if name in ("none", "long-tail"):
            assert data.groups is None
        else:
            assert data.groups is not None
            assert data.groups.dtype == np.int32
            np.testing.assert_array_equal(data.groups, again.groups)
            assert data.group_names == out.train.group_names
    assert (out.train.images.tobytes() != other.train.images.tobytes()) == (name != "none")


@pytest.mark.parametrize("name", SHIFTS)
def test_no_split_depends_on_another(name):
    given = splits(channels=channels(name))
    other = splits(train=(9, 9, 9, 9), channels=channels(name))
    shift = shift_by_name(name)
    for one, two in zip(shift(0, given)[1:3], shift(0, other)[1:3], strict=True):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.groups, two.groups)


@pytest.mark.parametrize("name", ["colour-foreground", "rare-invert", "hidden-strata", "long-tail"])
def test_splits_draw_apart(name):
    """Train and validation of the same images must not be shifted alike."""
    same = part((40, 40, 40, 40))
    out = shift_by_name(name, share=0.2)(0, Splits(same, same, same, "made"))
    assert out.train.images.tobytes() != out.validation.images.tobytes()


def test_none_is_the_identity():
    given = splits()
    assert shift_by_name("none")(0, given) is given


# --- colour ------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=2, max_size=10), st.floats(0, 1), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_colours_are_skewed_in_train_and_even_in_test(sizes, bias, seed):
    out = shifts.colour("foreground", bias)(seed, splits(sizes, sizes, sizes, side=1))
    for data in (out.train, out.validation):
        for c, row in enumerate(cells(data)):
            others = np.delete(row, c)
            assert row[c] == round(bias * sizes[c])
            assert row.sum() == sizes[c]
            assert others.max() - others.min() <= 1
    table = cells(out.test)
    np.testing.assert_array_equal(table.sum(1), sizes)
    assert (np.ptp(table, axis=1) <= 1).all()


def test_coloured_mnist_has_the_published_counts():
    out = shifts.colour("foreground")(0, splits([600] * 10, [100] * 10, [100] * 10, side=1))
    others = cells(out.train)[~np.eye(10, dtype=bool)]
    np.testing.assert_array_equal(np.diag(cells(out.train)), 540)
    assert {*others} == {6, 7}  # 60 over nine colours
    np.testing.assert_array_equal(cells(out.test), 10)
    assert out.train.group_names == COLOURS


def test_no_colour_always_gets_the_odd_example():
    """Of 19 others in class 0, one colour of nine gets three instead of two: not the same one for every seed."""
    made = splits([190] * 10, [10] * 10, [10] * 10, side=1)
    extra = {int(np.argmax(cells(shifts.colour("foreground")(seed, made).train)[0][1:])) for seed in range(20)}
    assert len(extra) > 3


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("where", ["foreground", "background"])
def test_colours_go_to_the_stroke_or_around_it(where, dtype):
    # Black, white and two greys in every image.
    ink = np.array([0, 255, 51, 102], np.uint8).reshape(1, 2, 2, 1).repeat(60, 0)
    images = ink if dtype == np.uint8 else (ink / 255).astype(dtype)
    data = Data(images, np.arange(60, dtype=np.int32) % 3, ("a", "b", "c"))
    out = shifts.colour(where)(0, Splits(data, data, data, "made"))
    for data in out[:3]:
        rgb = RGB[data.groups][:, None]
        black, white, dark, light = (data.images[:, i, j] for i in (0, 1) for j in (0, 1))
        unit = 255 if dtype == np.uint8 else 1
        near = {"atol": 0.501 if dtype == np.uint8 else 1e-6, "rtol": 0}
        full = rgb[:, 0] * (unit / 255)
        if where == "foreground":
            np.testing.assert_array_equal(black, 0)
            np.testing.assert_allclose(white, full, **near)
            np.testing.assert_allclose(dark, 0.2 * full, **near)
            np.testing.assert_allclose(light, 0.4 * full, **near)
        else:
            np.testing.assert_allclose(black, full, **near)
            np.testing.assert_array_equal(white, unit)
            np.testing.assert_allclose(dark, 0.2 * unit + 0.8 * full, **near)
            np.testing.assert_allclose(light, 0.4 * unit + 0.6 * full, **near)


def test_colour_leaves_labels_order_and_names():
    given = splits()
    out = shifts.colour("background")(0, given)
    for before, after in zip(given[:3], out[:3], strict=True):
        np.testing.assert_array_equal(before.labels, after.labels)
        assert before.class_names == after.class_names
        assert after.images.shape == (*before.images.shape[:3], 3)
    assert out.train.group_names == COLOURS[:4]


def test_a_palette_of_ones_own():
    out = shifts.colour("foreground", 1.0, {"white": (255, 255, 255), "teal": (0, 128, 128)})(0, splits(*[(5, 5)] * 3))
    assert out.train.group_names == ("white", "teal")
    np.testing.assert_array_equal(out.train.groups, out.train.labels)


def test_the_palette_is_told_apart_also_where_it_is_dim():
    assert len(PALETTE) == 10
    hue = RGB / RGB.sum(1, keepdims=True)  # what a dark stroke keeps of its colour
    light = RGB / (RGB @ [0.299, 0.587, 0.114])[:, None]
    for i, j in itertools.combinations(range(10), 2):
        assert np.linalg.norm(RGB[i] - RGB[j]) > 90
        assert np.linalg.norm(hue[i] - hue[j]) > 0.24
        assert np.linalg.norm(light[i] - light[j]) > 0.6
    assert RGB.max(1).min() > 120  # none near black
    assert RGB.min(1).max() < 80  # nor near white or grey


# --- grey --------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_classes_keep_their_style(sizes, bias):
    out = shifts.grey(bias)(0, splits(sizes, sizes, sizes, side=1, channels=3))
    for data in (out.train, out.validation):
        table = cells(data)
        np.testing.assert_array_equal(table.sum(1), sizes)
        for c, n in enumerate(sizes):
            own = 1 - c % 2
            assert table[c, own] == round(bias * n)
    np.testing.assert_array_equal(cells(out.test), np.stack([sizes, sizes], 1))
    assert out.train.group_names == ("colour", "grey")


def test_grey_is_bt_601_luma():
    images = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50]], np.uint8).reshape(1, 2, 2, 3)
    data = Data(images.repeat(2, 0), np.arange(2, dtype=np.int32), ("a", "b"))
    test = shifts.grey()(0, Splits(data, data, data, "made")).test
    # 76.245, 149.685, 29.07 and 59.8 + 58.7 + 5.7 = 124.2
    expected = np.array([76, 150, 29, 124]).reshape(1, 2, 2, 1)
    np.testing.assert_array_equal(test.images[2:], np.broadcast_to(expected, (2, 2, 2, 3)))
    floating = Data((images / 255).astype(np.float32).repeat(2, 0), data.labels, data.class_names)
    test = shifts.grey()(0, Splits(floating, floating, floating, "made")).test
    np.testing.assert_allclose(test.images[2, 1, 1] * 255, 124.2, rtol=1e-5)


def test_grey_tests_everything_in_both_styles():
    given = splits(channels=3)
    test = shifts.grey()(0, given).test
    n = len(given.test)
    assert len(test) == 2 * n
    np.testing.assert_array_equal(test.images[:n], given.test.images)
    np.testing.assert_array_equal(test.labels, np.tile(given.test.labels, 2))
    np.testing.assert_array_equal(test.groups, np.repeat([0, 1], n))
    assert (test.images[n:] == test.images[n:, ..., :1]).all()


def test_train_images_are_grey_where_the_group_says_so():
    given = splits(channels=3)
    train = shifts.grey()(0, given).train
    dull = (train.images == train.images[..., :1]).all((1, 2, 3))
    np.testing.assert_array_equal(dull, train.groups)
    np.testing.assert_array_equal(train.images[~dull], given.train.images[~dull])


def test_grey_classes_of_cifar10_and_ones_own():
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    data = part([20] * 10, 3)
    data = Data(data.images, data.labels, names)
    given = Splits(data, data, data, "cifar10")
    table = cells(shifts.grey()(0, given).train)
    assert {name for name, row in zip(names, table, strict=True) if row[1] == 18} == {
        *("airplane", "bird", "deer", "frog", "ship")
    }
    table = cells(shifts.grey(1.0, ["cat"])(0, given).train)
    np.testing.assert_array_equal(table[:, 1], [20 * (name == "cat") for name in names])


# --- rare --------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(st.lists(st.integers(1, 60), min_size=1, max_size=6), st.floats(0.001, 0.5))
@settings(deadline=None, max_examples=30)
def test_rare_transforms_have_exact_counts(sizes, share):
    out = shifts.rare("invert", share)(0, splits(sizes, sizes, sizes, side=1))
    few = [max(1, round(share * n)) for n in sizes]
    for data in (out.train, out.validation):
        np.testing.assert_array_equal(cells(data), np.stack([np.subtract(sizes, few), few], 1))
    np.testing.assert_array_equal(cells(out.test)[:, 1], np.array(sizes) // 2)
    np.testing.assert_array_equal(cells(out.test).sum(1), sizes)
    assert out.train.group_names == ("plain", "invert")


def test_a_class_missing_from_validation_stays_missing():
    out = shifts.rare("invert")(0, splits(validation=(5, 0, 5, 5)))
    np.testing.assert_array_equal(cells(out.validation)[1], 0)


def pillow_blur(image):
    planes = [Image.fromarray(image[..., c]).filter(ImageFilter.GaussianBlur(2)) for c in range(image.shape[-1])]
    return np.stack([np.asarray(plane) for plane in planes], -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "transform, expected",
    [
        ("invert", lambda image: 255 - image),
        ("rotate", lambda image: image.transpose(1, 0, 2)[::-1]),
        ("blur", pillow_blur),
    ],
)
def test_rare_transforms_do_what_they_say_to_the_group_alone(transform, expected, channels):
    given = splits(channels=channels, side=6)
    out = shifts.rare(transform, 0.3)(0, given)
    for before, after in zip(given[:3], out[:3], strict=True):
        for old, new, group in zip(before.images, after.images, after.groups, strict=True):
            np.testing.assert_array_equal(new, expected(old) if group else old)


def test_rare_noise_has_variance_0_005():
    grey = Data(np.full((400, 8, 8, 1), 128, np.uint8), np.repeat(np.arange(2, dtype=np.int32), 200), ("a", "b"))
    out = shifts.rare("noise")(0, Splits(grey, grey, grey, "made"))
    change = out.test.images / 255 - 128 / 255
    assert not change[out.test.groups == 0].any()
    assert change[out.test.groups == 1].var() == pytest.approx(0.005, rel=0.05)


# --- strata ------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 40), min_size=4, max_size=10), st.floats(0.01, 0.5), st.integers(0, 9), st.integers(0, 99)
)
@settings(deadline=None, max_examples=30)
def test_strata_merge_classes_and_cut_one(sizes, share, rare_class, seed):
    rare_class %= len(sizes)
    out = shifts.strata(share, rare_class)(seed, splits(sizes, sizes, sizes, side=1))
    kept = np.array(sizes)
    kept[rare_class] = max(1, round(share * sizes[rare_class]))
    for data in (out.train, out.validation):
        np.testing.assert_array_equal(np.bincount(data.groups), kept)
    np.testing.assert_array_equal(np.bincount(out.test.groups), min(sizes))
    for data in out[:3]:
        np.testing.assert_array_equal(data.labels, data.groups >= len(sizes) / 2)
        assert data.group_names == tuple(f"c{c}" for c in range(len(sizes)))


def test_strata_are_named_and_the_last_class_is_rare():
    out = shifts.strata()(0, splits([100] * 10, [20] * 10, [20] * 10, side=1))
    assert out.train.class_names == ("c0..c4", "c5..c9")
    np.testing.assert_array_equal(np.bincount(out.train.groups), [100] * 9 + [5])
    assert shifts.strata()(0, splits([9] * 5, [9] * 5, [9] * 5)).test.class_names == ("c0..c2", "c3..c4")


def test_strata_keep_images_with_their_classes_in_order():
    given = splits()
    out = shifts.strata(0.2)(0, given)
    for before, after in zip(given[:3], out[:3], strict=True):
        pairs = [*zip(rows(before.images), before.labels.tolist(), strict=True)]
        kept = [*zip(rows(after.images), after.groups.tolist(), strict=True)]
        places = [pairs.index(pair) for pair in kept]
        assert places == sorted(places)
        assert len({*places}) == len(kept)


# --- long tail ---------------------------------------------------------------------------------------


def test_the_tail_is_geometric():
    given = splits([1000] * 3, [100] * 3, [50, 60, 70], side=1)
    out = shifts.long_tail(0.04)(0, given)
    np.testing.assert_array_equal(np.bincount(out.train.labels), [1000, 200, 40])
    np.testing.assert_array_equal(np.bincount(out.validation.labels), [100, 20, 4])
    assert out.test is given.test
    assert out.train.groups is None
    assert out.train.class_names == given.train.class_names


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.floats(0.001, 1))
@settings(deadline=None, max_examples=30)
def test_the_tail_keeps_two_of_a_class(sizes, ratio):
    out = shifts.long_tail(ratio)(0, splits(sizes, sizes, sizes, side=1))
    last = len(sizes) - 1
    expected = [min(n, max(2, round(ratio ** (c / last) * n))) for c, n in enumerate(sizes)]
    np.testing.assert_array_equal(np.bincount(out.train.labels), expected)


def test_a_ratio_of_one_thins_nothing():
    given = splits()
    np.testing.assert_array_equal(shifts.long_tail(1.0)(0, given).train.images, given.train.images)


# --- names and errors --------------------------------------------------------------------------------


def test_names_make_their_shifts():
    given = splits(side=6)
    for name, plain in (
        ("colour-foreground", shifts.colour("foreground", 0.7)),
        ("colour-background", shifts.colour("background", 0.7)),
        ("rare-invert", shifts.rare("invert", 0.3)),
        ("rare-blur", shifts.rare("blur", 0.3)),
        ("rare-rotate", shifts.rare("rotate", 0.3)),
        ("rare-noise", shifts.rare("noise", 0.3)),
        ("hidden-strata", shifts.strata(0.3)),
        ("long-tail", shifts.long_tail(0.3)),
    ):
        out, expected = shift_by_name(name, 0.7, 0.3)(5, given), plain(5, given)
        assert out.name == expected.name == f"made {name}"
        np.testing.assert_array_equal(out.train.images, expected.train.images)
        np.testing.assert_array_equal(out.train.groups, expected.train.groups)
    out, expected = shift_by_name("two-colours", 0.7, 0.3)(5, given), shifts.colour("foreground", 0.7, TWO)(5, given)
    np.testing.assert_array_equal(out.train.images, expected.train.images)
    coloured = splits(channels=3)
    out, expected = shift_by_name("grey", 0.7)(5, coloured), shifts.grey(0.7)(5, coloured)
    np.testing.assert_array_equal(out.train.images, expected.train.images)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: shift_by_name("color-foreground"), "unknown shift 'color-foreground': did you mean colour-foreground"),
        (lambda: shift_by_name("rare-flip"), "unknown shift 'rare-flip'"),
        (lambda: shift_by_name("none", bias=1.5), r"bias is 1.5: it must lie in \[0, 1\]"),
        (lambda: shift_by_name("grey", bias=-0.1), r"bias is -0.1"),
        (lambda: shift_by_name("grey", bias=float("nan")), r"bias is nan"),
        (lambda: shift_by_name("none", share=0.0), r"share is 0.0: it must lie in \(0, 1\]"),
        (lambda: shift_by_name("rare-blur", share=0.0), r"share is 0.0: it must lie in \(0, 0.5\]"),
        (lambda: shift_by_name("hidden-strata", share=0.6), r"share is 0.6"),
        (lambda: shift_by_name("long-tail", share=1.1), r"share is 1.1: it must lie in \(0, 1\]"),
        (lambda: shifts.colour("stroke"), "unknown part to colour 'stroke'"),
        (lambda: shifts.colour("foreground", 2.0), "bias is 2.0"),
        (lambda: shifts.grey(2.0), "bias is 2.0"),
        (lambda: shifts.rare("inverse"), "unknown transform 'inverse': did you mean invert"),
        (lambda: shifts.rare("invert", 0.0), "share is 0.0"),
        (lambda: shifts.strata(0.7), "share is 0.7"),
        (lambda: shifts.long_tail(0.0), "ratio is 0.0"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_the_whole_range_of_shares_is_taken():
    given = splits()
    np.testing.assert_array_equal(shift_by_name("long-tail", share=1.0)(0, given).train.labels, given.train.labels)
    assert np.bincount(shift_by_name("rare-invert", share=0.5)(0, given).train.groups)[1] == 15 + 20 + 10 + 12


@pytest.mark.parametrize(
    "shift, data, message",
    [
        (shifts.colour("foreground"), splits(channels=3), r"colour-foreground on images of \(4, 4, 3\).*give grey"),
        (shifts.colour("background"), splits((9,), (9,), (9,)), r"colour-background on 1 class.*2 or more"),
        (shifts.grey(), splits(channels=1), r"grey on images of \(4, 4, 1\).*RGB"),
        (shifts.grey(0.9, ["c9"]), splits(channels=3), "unknown grey class 'c9': did you mean c"),
        (shifts.strata(), splits((9, 9, 9), (9, 9, 9), (9, 9, 9)), "hidden-strata on 3 class.*4 or more"),
        (shifts.strata(0.05, 4), splits(), r"rare class is 4: give 0\.\.3"),
        (shifts.strata(0.05, -1), splits(), "rare class is -1"),
        (shifts.long_tail(), splits((9,), (9,), (9,)), "long-tail on 1 class"),
    ],
)
def test_data_that_cannot_be_shifted_are_named(shift, data, message):
    with pytest.raises(InputError, match=message):
        shift(0, data)


def test_only_squares_are_rotated():
    data = Data(np.zeros((8, 4, 6, 1), np.uint8), np.arange(8, dtype=np.int32) % 2, ("a", "b"))
    given = Splits(data, data, data, "made")
    with pytest.raises(InputError, match=r"rare-rotate on images of \(4, 6, 1\): crop or pad"):
        shifts.rare("rotate")(0, given)
    assert shifts.rare("invert")(0, given).train.images.any()


@pytest.mark.parametrize("name", [name for name in SHIFTS if name != "none"])
@pytest.mark.parametrize("split", [0, 1, 2])
def test_groups_are_not_replaced(name, split):
    parts = list(splits(channels=channels(name))[:3])
    data = parts[split]
    parts[split] = Data(data.images, data.labels, data.class_names, data.labels % 2, ("even", "odd"))
    with pytest.raises(InputError, match="'made' already has groups even, odd: a shift would replace them"):
        shift_by_name(name)(0, Splits(*parts, "made"))


def test_fewer_colours_than_classes_are_dealt_round():
    out = shifts.colour("foreground", 0.9, shifts.TWO)(0, splits(*[[10] * 4] * 3))
    assert out.train.group_names == ("red", "sky")
    np.testing.assert_array_equal(cells(out.train), [[9, 1], [1, 9], [9, 1], [1, 9]])
    np.testing.assert_array_equal(cells(out.test), [[5, 5]] * 4)


# --- several -----------------------------------------------------------------------------------------


def test_shifts_are_made_one_after_the_other_and_their_groups_crossed():
    given = splits()
    turned = shift_by_name("rare-rotate", share=0.2)(3, given)
    both = shift_by_name("rare-rotate+colour-foreground", bias=0.7, share=0.2)(3, given)
    assert both.name == "made rare-rotate colour-foreground"
    for one, two in zip(turned[:3], both[:3], strict=True):
        colours = len(two.group_names) // 2
        np.testing.assert_array_equal(two.groups // colours, one.groups)
        assert two.group_names[1] == f"plain, {list(PALETTE)[1]}"
        assert two.group_names[-1].startswith("rotate, ")
        # The strokes are those that the first shift left, in the colour that the name says.
        rgb = np.array(list(PALETTE.values()), np.float32)[two.groups % colours] / 255
        painted = one.images.astype(np.float32) * rgb[:, None, None]
        np.testing.assert_allclose(two.images, painted, atol=1)


def test_every_shift_of_several_has_draws_of_its_own():
    given = splits((300, 300, 300, 300))
    out = shift_by_name("rare-noise+rare-invert", share=0.5)(0, given).train
    assert (np.bincount(out.groups, minlength=4) > 0.2 * len(out)).all()  # one generator for both would leave two empty


def test_earlier_groups_stay_with_their_images_where_a_later_shift_cuts():
    given = splits((40, 40, 40, 40))
    plain = shift_by_name("rare-invert", share=0.4)(0, given).train
    both = shift_by_name("rare-invert+hidden-strata", share=0.4)(0, given).train
    group_of = dict(zip(rows(plain.images), plain.groups, strict=True))
    assert len(both) < len(plain)
    assert both.classes == 2
    assert both.groups.tolist() == [
        group_of[row] * 4 + g % 4 for row, g in zip(rows(both.images), both.groups, strict=True)
    ]
    assert [name.split(", ")[0] for name in both.group_names] == ["plain"] * 4 + ["invert"] * 4


def test_several_shifts_are_described_with_what_they_take():
    assert shifts.described("mnist", "grey+rare-blur", 0.9, 0.05) == "mnist, grey+rare-blur (bias 0.9, share 0.05)"
    assert shifts.described("mnist", "rare-blur+long-tail", 0.9, 0.05) == "mnist, rare-blur+long-tail (share 0.05)"
