import numpy as np
import pytest
from PIL import Image

from ovdet.errors import InputError
from ovdet.seggpt.examples import Example, resize_labels
from ovdet.seggpt.mask_files import read_mask

IMAGE = np.zeros((4, 6, 3), np.uint8)
MASK = np.zeros((4, 6), bool)
MASK[1:3, 2:5] = True


@pytest.mark.parametrize(
    "mask", [MASK, MASK.astype(np.uint8), MASK.astype(np.uint8) * 255, MASK * 200 + 20, MASK.astype(np.float32)]
)
def test_binary_masks_of_any_kind(mask):
    example = Example.from_mask(IMAGE, mask, "pear")
    assert example.names == ("pear",)
    assert np.array_equal(example.only("pear"), MASK)


def test_palette_masks():
    indices = np.zeros((4, 6), np.uint8)
    indices[0, :3], indices[2, 1], indices[3] = 7, 2, 255
    example = Example.from_palette(IMAGE, indices, {7: "car", 2: "bus", 9: "absent"})
    assert example.names == ("bus", "car")
    assert np.array_equal(example.only("car"), indices == 7)
    assert Example.from_palette(IMAGE, indices).names == ("2", "7")
    with pytest.raises(InputError, match=r"number 7 \(3 pixels\).*named are 1, 2"):
        Example.from_palette(IMAGE, indices, ["bus", "truck"])


def test_numbers_of_one_name_are_one_class():
    indices = np.arange(24).reshape(4, 6) % 4
    example = Example.from_palette(IMAGE, indices, {1: "dog", 2: "cat", 3: "dog"})
    assert np.array_equal(example.only("dog"), (indices == 1) | (indices == 3))


def test_colour_masks():
    mask = np.zeros((4, 6, 3), np.uint8)
    mask[0], mask[3, 5] = (255, 0, 0), (0, 128, 128)
    example = Example.from_colours(IMAGE, mask, {(255, 0, 0): "lake", (0, 128, 128): "hill", (1, 1, 1): "absent"})
    assert set(example.names) == {"lake", "hill"}
    assert example.only("lake").sum() == 6
    assert Example.from_colours(IMAGE, mask).names == ("#008080", "#ff0000")
    with pytest.raises(InputError, match="1 colours without a name, the first #008080 at column 5, row 3"):
        Example.from_colours(IMAGE, mask, {(255, 0, 0): "lake"})


def test_smooth_edges_of_a_colour_mask_are_no_classes():
    hard = np.zeros((30, 40, 3), np.uint8)
    hard[4:20, 4:18], hard[10:28, 18:36] = (255, 0, 0), (0, 128, 128)
    soft = np.asarray(Image.fromarray(hard).resize((41, 31), Image.Resampling.BILINEAR))
    image = np.zeros_like(soft)
    with pytest.raises(InputError, match=r"of the mask's \d+ colours are nowhere as large as 3x3 pixels, the first #"):
        Example.from_colours(image, soft)
    assert Example.from_colours(np.zeros_like(hard), hard).names == ("#008080", "#ff0000")


def test_a_photograph_is_no_colour_mask():
    photograph = np.random.default_rng(0).integers(1, 255, (40, 60, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="too many to be classes"):
        Example.from_colours(np.zeros_like(photograph), photograph)


@pytest.mark.parametrize(
    ("mask", "names", "wanted"),
    [
        (MASK, None, ("thing",)),
        (MASK * 255, "pear", ("pear",)),
        (np.repeat(MASK[..., None] * np.uint8(255), 3, axis=2), None, ("thing",)),  # white on black in RGB
        (MASK * np.uint8(3), None, ("3",)),
        (MASK * np.uint8(2), ["a", "b"], ("b",)),
        (MASK[..., None] * np.array([255, 0, 0], np.uint8), "pear", ("pear",)),
        (MASK[..., None] * np.array([255, 0, 0], np.uint8), None, ("#ff0000",)),
    ],
)
def test_the_form_of_a_mask_is_recognised(mask, names, wanted):
    example = Example.of(IMAGE, mask, names)
    assert example.names == wanted
    assert np.array_equal(example.labels > 0, MASK)


def test_soft_edges_are_no_palette():
    soft = np.linspace(0, 255, 40 * 60).reshape(40, 60).astype(np.uint8)
    example = Example.of(np.zeros((40, 60, 3), np.uint8), soft)
    assert example.names == ("thing",)
    assert np.array_equal(example.labels > 0, soft > 127)


@pytest.mark.parametrize("file", ["mask.png", "mask.jpg", "colour.jpg"])
def test_soft_edges_of_a_few_greys_are_no_palette_either(tmp_path, file):
    """A mask that was shrunk smoothly, or saved with loss, in one channel or in three."""
    hard = np.zeros((96, 120), bool)
    hard[20:70, 30:100] = True
    path = tmp_path / file
    small = Image.fromarray((hard * 255).astype(np.uint8)).resize((40, 32), Image.Resampling.BICUBIC)
    small.convert("RGB" if file.startswith("colour") else "L").save(path)
    assert 3 < len(np.unique(np.asarray(Image.open(path)))) < 64
    example = Example.from_file(np.zeros((32, 40, 3), np.uint8), path, ["pear"])
    assert np.array_equal(example.only("pear"), np.asarray(Image.open(path).convert("L")) > 127)


def test_numbers_beside_unlabelled_pixels_are_a_palette():
    """Pascal VOC: 20 classes, and more pixels of 255 around a small thing than in it."""
    numbers = np.full((10, 12), 255, np.uint8)
    numbers[:4], numbers[6:8, 3:6], numbers[9, 9] = 0, 20, 3
    assert Example.of(np.zeros((10, 12, 3), np.uint8), numbers).names == ("3", "20")


def test_sizes_come_before_what_a_mask_holds():
    numbers, colours = np.arange(6).reshape(2, 3), np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    for take in (
        lambda: Example.of(IMAGE, numbers, ["a"]),
        lambda: Example.from_palette(IMAGE, numbers, {}),
        lambda: Example.from_colours(IMAGE, colours, {}),
    ):
        with pytest.raises(InputError, match="mask has 3x2 pixels and its picture 6x4"):
            take()


def test_sizes_must_agree_unless_resizing_is_asked_for():
    with pytest.raises(InputError, match="mask has 6x4 pixels and its picture 12x8"):
        Example.of(np.zeros((8, 12, 3), np.uint8), MASK)
    example = Example.of(np.zeros((8, 12, 3), np.uint8), MASK, resize=True)
    assert np.array_equal(example.labels > 0, MASK.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("empty", [np.zeros((4, 6), bool), np.zeros((4, 6), np.uint8), np.zeros((4, 6, 3), np.uint8)])
def test_empty_masks_are_refused(empty):
    with pytest.raises(InputError, match="is empty: an example must show"):
        Example.of(IMAGE, empty)
    with pytest.raises(InputError, match="empty"):
        Example.from_palette(IMAGE, np.full((4, 6), 255))


@pytest.mark.parametrize(
    ("image", "labels", "names", "said"),
    [
        (IMAGE[..., 0], MASK * 1, ("a",), r"must be \(H, W, 3\) uint8"),
        (IMAGE.astype(float), MASK * 1, ("a",), "float64"),
        (IMAGE[:0], MASK[:0] * 1, ("a",), "no pixels"),
        (IMAGE, MASK * 2, ("a",), r"0..1, got 0 to 2"),
        (IMAGE, MASK * 1, ("a", "b"), "mask of 'b' is empty"),
    ],
)
def test_wrong_examples_are_refused(image, labels, names, said):
    with pytest.raises(InputError, match=said):
        Example(image, labels, names)


def test_too_many_or_too_few_names():
    with pytest.raises(InputError, match="2 names for a mask of one class"):
        Example.of(IMAGE, MASK, ["a", "b"])
    with pytest.raises(InputError, match=r"2 names for a mask of 1 colour \(#ff0000\); give one for each"):
        Example.of(IMAGE, MASK[..., None] * np.array([255, 0, 0], np.uint8), ["a", "b"])


def test_files(tmp_path):
    palette = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) % 3, mode="P")
    palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    palette.save(tmp_path / "palette.png")
    assert Example.from_file(IMAGE, tmp_path / "palette.png", ["cat", "dog"]).names == ("cat", "dog")
    values, is_palette = read_mask(tmp_path / "palette.png")
    assert is_palette and values.max() == 2
    palette.convert("RGB").save(tmp_path / "colour.png")
    assert Example.from_file(IMAGE, tmp_path / "colour.png").names == ("#008000", "#800000")
    Image.fromarray(MASK).save(tmp_path / "bits.png")
    assert np.array_equal(Example.from_file(IMAGE, tmp_path / "bits.png", "pear").only("pear"), MASK)
    Image.fromarray((MASK * 300).astype(np.uint16)).save(tmp_path / "deep.png")
    assert Example.from_file(IMAGE, tmp_path / "deep.png").names == ("300",)


def test_files_of_a_palette_of_many_classes(tmp_path):
    numbers = np.arange(100 * 100).reshape(100, 100) // 67 % 150
    picture = Image.fromarray(numbers.astype(np.uint8), mode="P")
    picture.putpalette(np.arange(768) % 251)
    picture.save(tmp_path / "ade.png")
    assert len(Example.from_file(np.zeros((100, 100, 3), np.uint8), tmp_path / "ade.png").names) == 149


@pytest.mark.parametrize("content", [None, b"", b"no picture", "folder"])
def test_files_that_are_no_masks(tmp_path, content):
    path = tmp_path / "mask.png"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"mask\.png"):
        Example.from_file(IMAGE, path)


def test_labels_are_resized_by_the_nearest_pixel():
    labels = np.array([[0, 70_000], [3, 4]])
    assert np.array_equal(resize_labels(labels, (4, 6)), labels.repeat(2, 0).repeat(3, 1))
    assert np.array_equal(resize_labels(labels.repeat(3, 0).repeat(5, 1), (2, 2)), labels)
