import numpy as np
import pytest

from ovdet.data.stickers.colours import WORDS, colour_shares


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((220, 30, 30), "red"),
        ((245, 140, 20), "orange"),
        ((250, 220, 40), "yellow"),
        ((60, 170, 60), "green"),
        ((30, 90, 40), "green"),
        ((40, 80, 220), "blue"),
        ((120, 190, 250), "blue"),
        ((130, 50, 180), "purple"),
        ((250, 150, 190), "pink"),
        ((120, 70, 30), "brown"),
        ((20, 20, 22), "black"),
        ((55, 58, 64), "black"),
        ((95, 98, 100), "gray"),
        ((130, 130, 130), "gray"),
        ((250, 250, 250), "white"),
    ],
)
def test_plain_colours_have_their_words(rgb, word):
    shares = colour_shares(np.array([rgb] * 3, np.uint8))
    assert shares.sum() == pytest.approx(1)
    assert WORDS[shares.argmax()] == word


def test_shares_count_pixels():
    pixels = np.array([(220, 30, 30)] * 3 + [(40, 80, 220)], np.uint8)
    shares = dict(zip(WORDS, colour_shares(pixels).tolist(), strict=True))
    assert shares["red"] == 0.75 and shares["blue"] == 0.25
    assert colour_shares(np.zeros((0, 3), np.uint8)).sum() == 0
