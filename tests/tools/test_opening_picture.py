import runpy
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "data" / "make_opening_picture.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT), run_name="opening")


def test_rows_fill_the_width_and_keep_proportions(script):
    red, green, blue = (
        np.full((*size, 3), colour, np.uint8)
        for size, colour in (((100, 200), (250, 0, 0)), ((50, 50), (0, 250, 0)), ((300, 900), (0, 0, 250)))
    )
    result = np.asarray(script["montage"]([[red, green], [blue]], width=306, gap=6))
    assert result.shape == (100 + 6 + 102, 306, 3)
    assert result[50, 0].tolist() == result[50, 199].tolist() == [250, 0, 0]
    assert result[50, 203].tolist() == [255, 255, 255]
    assert result[50, 206].tolist() == result[50, 305].tolist() == [0, 250, 0]
    assert result[103, 150].tolist() == [255, 255, 255]
    assert result[106, 0].tolist() == result[207, 305].tolist() == [0, 0, 250]


def test_its_pictures_are_in_the_demo(script):
    assert all((script["DEMO"] / f"{name}.jpg").is_file() for row in script["ROWS"] for name in row)
