import numpy as np
import pytest
from PIL import Image

from ovdet.data.stickers.grounds import (
    EVALUATION_PAINTERS,
    TRAIN_PAINTERS,
    GroundSource,
    evaluation_grounds,
    read_photographs,
    training_grounds,
)
from ovdet.errors import InputError


@pytest.mark.parametrize("painter", sorted({*TRAIN_PAINTERS, *EVALUATION_PAINTERS}, key=lambda one: one.__name__))
@pytest.mark.parametrize("size_hw", [(64, 64), (96, 150)])
def test_painters_paint(painter, size_hw):
    ground = painter(np.random.default_rng(0), *size_hw)
    assert ground.image.shape == (*size_hw, 3) and ground.image.dtype == np.uint8
    assert np.ptp(ground.image.astype(int)) > 2
    assert ground.horizon is None or 0 < ground.horizon < 1
    assert np.array_equal(ground.image, painter(np.random.default_rng(0), *size_hw).image)


def test_evaluation_kinds_are_never_trained_on():
    assert not set(TRAIN_PAINTERS) & set(EVALUATION_PAINTERS)
    assert training_grounds().painters == TRAIN_PAINTERS
    assert evaluation_grounds().painters == EVALUATION_PAINTERS


@pytest.fixture
def photographs(tmp_path):
    rng = np.random.default_rng(0)
    for index in range(20):
        picture = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    return tmp_path


def test_photographs_are_on_one_side_by_what_they_hold(photographs):
    sides = [
        {picture.tobytes() for picture in read_photographs(photographs, evaluation=flag)} for flag in (False, True)
    ]
    assert not sides[0] & sides[1] and len(sides[0] | sides[1]) == 20
    for index in range(20):
        (photographs / f"copy-{index}.png").write_bytes((photographs / f"{index}.png").read_bytes())
    assert {picture.tobytes() for picture in read_photographs(photographs, evaluation=True)} == sides[1]


def test_crops_have_the_wanted_size():
    source = GroundSource(TRAIN_PAINTERS, [np.full((40, 90, 3), 7, np.uint8)], photo_share=1.0)
    image = source.draw(np.random.default_rng(1), (64, 48)).image
    assert image.shape == (64, 48, 3) and (image == 7).all()


def test_mistakes_are_told(tmp_path):
    with pytest.raises(InputError, match="no folder of photographs"):
        training_grounds(tmp_path / "none")
    with pytest.raises(InputError, match="no photograph on the training side"):
        training_grounds(tmp_path)
    for index in range(8):
        (tmp_path / f"{index}.jpg").write_bytes(b"no picture %d" % index)
    with pytest.raises(InputError, match="is no picture that can be read"):
        training_grounds(tmp_path)


def test_a_divided_folder_is_taken_by_its_word(tmp_path):
    for index in range(12):
        side = tmp_path / ("training" if index < 4 else "evaluation")
        side.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (index, 0, 0)).save(side / f"{index}.png")
    assert [picture[0, 0, 0] for picture in read_photographs(tmp_path, evaluation=False)] == [0, 1, 2, 3]
    assert len(read_photographs(tmp_path, evaluation=True)) == 8
    for path in (tmp_path / "evaluation").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="no photograph on the evaluation side"):
        read_photographs(tmp_path, evaluation=True)
