import numpy as np
import pytest
from PIL import Image

from ovdet.data.segments import (
    IGNORED,
    NOTHING,
    SegmentedPicture,
    by_colour,
    by_instance,
    by_part,
    cut,
    read_grey,
    read_labels,
    read_rgb,
    read_upright_rgb,
)
from ovdet.data.stickers.colours import WORDS
from ovdet.errors import InputError

RED, BLUE, GREEN = (220, 20, 20), (20, 40, 220), (20, 160, 40)


def box(size_hw, top, left, height, width):
    mask = np.zeros(size_hw, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def test_the_smaller_of_two_overlapping_segments_is_on_top():
    image = np.zeros((10, 12, 3), np.uint8)
    large, small = box((10, 12), 1, 1, 8, 8), box((10, 12), 3, 3, 2, 2)
    ignored = box((10, 12), 0, 0, 2, 12)
    for order in ((large, small), (small, large)):
        keys = [7, 3] if order[0] is large else [3, 7]
        picture = cut(image, order, keys, ignored)
        for row in range(10):
            for column in range(12):
                wanted = NOTHING
                if ignored[row, column]:
                    wanted = IGNORED
                if large[row, column]:
                    wanted = 7
                if small[row, column]:
                    wanted = 3
                assert picture.key_map[row, column] == wanted
    assert picture.shown().tolist() == [3, 7] and picture.shown(5).tolist() == [7]
    assert np.array_equal(picture.mask(3), small)


def test_segments_of_one_key_are_one_mask():
    image = np.zeros((4, 6, 3), np.uint8)
    left, right = box((4, 6), 0, 0, 4, 2), box((4, 6), 0, 4, 4, 2)
    picture = cut(image, [left, right], [5, 5])
    assert np.array_equal(picture.mask(5), left | right)
    assert by_instance(picture).shown().tolist() == [0, 1]


def test_what_does_not_fit_is_refused():
    image, owner = np.zeros((4, 6, 3), np.uint8), np.full((4, 6), NOTHING, np.int32)
    with pytest.raises(ValueError, match="image must be"):
        SegmentedPicture(image.astype(float), owner, np.zeros(0))
    with pytest.raises(ValueError, match="owner must be"):
        SegmentedPicture(image, owner.T, np.zeros(0))
    with pytest.raises(ValueError, match="owner must index 1 keys"):
        SegmentedPicture(image, owner + 2, np.zeros(1))
    with pytest.raises(ValueError, match="negative"):
        SegmentedPicture(image, owner, np.asarray([-1]))


def painted():
    """A red thing, a thing half red and half blue, and one that is green with a small blue corner."""
    image = np.full((20, 60, 3), 255, np.uint8)
    masks = [box((20, 60), 0, 20 * place, 20, 20) for place in range(3)]
    image[masks[0]] = RED
    image[:, 20:30], image[:, 30:40] = RED, BLUE
    image[masks[2]] = GREEN
    image[:5, 40:45] = BLUE
    return cut(image, masks, [4, 4, 9])


def test_colours_group_things_and_doubtful_ones_are_not_judged():
    picture = by_colour(painted())
    assert (picture.key_map[:, :20] == WORDS.index("red")).all()
    assert (picture.key_map[:, 20:40] == IGNORED).all()
    assert (picture.key_map[:, 40:] == WORDS.index("green")).all()


def test_parts_are_the_larger_colours_of_a_name():
    picture = by_part(painted())
    red_of_4, blue_of_4 = 4 * len(WORDS) + WORDS.index("red"), 4 * len(WORDS) + WORDS.index("blue")
    assert (picture.key_map[:, :30] == red_of_4).all()
    assert (picture.key_map[:, 30:40] == blue_of_4).all()
    assert (picture.key_map[:5, 40:45] == NOTHING).all(), "a colour that covers little is no part"
    assert picture.key_map[10, 50] == 9 * len(WORDS) + WORDS.index("green")


def test_pictures_and_labels_are_read(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 200, (5, 7)).astype(np.uint8)
    indexed = Image.fromarray(labels, "L")
    indexed.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
    indexed.save(tmp_path / "indexed.png")
    Image.fromarray(labels).save(tmp_path / "grey.png")
    assert np.array_equal(read_labels(tmp_path / "indexed.png"), labels)
    assert np.array_equal(read_labels(tmp_path / "grey.png"), labels)
    assert np.array_equal(read_grey(tmp_path / "grey.png"), labels)
    wide = np.arange(35, dtype=np.uint16).reshape(5, 7) * 1000
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert np.array_equal(read_labels(tmp_path / "wide.png"), wide)
    colours = rng.integers(0, 256, (5, 7, 3)).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    assert np.array_equal(read_rgb(tmp_path / "colours.png"), colours)
    with pytest.raises(InputError, match="in colour"):
        read_labels(tmp_path / "colours.png")


def test_a_turned_picture_is_turned_only_if_its_annotations_are(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_upright_rgb(tmp_path / "a.png", (5, 7)), colours)
    assert np.array_equal(read_upright_rgb(tmp_path / "a.png", (7, 5)), np.rot90(colours, -1))
    with pytest.raises(InputError, match="is 7 x 5 pixels, but its annotations are for 9 x 9"):
        read_upright_rgb(tmp_path / "a.png", (9, 9))


@pytest.mark.parametrize("read", [read_rgb, read_labels, read_grey])
def test_missing_and_damaged_pictures_are_named(tmp_path, read):
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    for name, told in (("none.png", "there is no picture"), ("text.png", "is no picture"), ("half.png", "damaged")):
        with pytest.raises(InputError, match=told):
            read(tmp_path / name)
