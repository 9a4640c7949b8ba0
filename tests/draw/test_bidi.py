"""Our order of right-to-left text against libfribidi's, glyph by glyph, where Pillow has it."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont, features

from ovdet.draw.bidi import has_rtl, join_arabic, visual_order
from ovdet.draw.fonts import font_for

TEXTS = [
    "חתול",
    "חתול קטן 0.87",
    "cat חתול dog",
    "קפה (גדול) 12",
    "קפה 3.5% off",
    "מחיר: 100%",
    "קרא-5 abc",
    "(חתול)",
    "שלום, world! 1,234.5",
    "[א] {ב} <ג>",
    "abc (א) def",
    "0.87 חתול",
]
ARABIC = [
    "قطة",
    "قطة جميلة 0.59",
    "فنجان قهوة",
    "سلام",
    "لا",
    "بلا",
    "الإنسان",
    "cat قطة 12",
    "منطاد هواء ساخن",
    "پیشی",
]


LEFT_TO_RIGHT = "\u202d{}\u202c"  # an override: the engine may not reorder what stands inside


def _drawn(text: str) -> np.ndarray:
    font = ImageFont.truetype(str(font_for(frozenset("aא"))), 40, layout_engine=ImageFont.Layout.RAQM)
    canvas = Image.new("L", (900, 70))
    ImageDraw.Draw(canvas).text((10, 5), text, font=font, fill=255, features=["-kern"])
    return np.asarray(canvas)


needs_raqm = pytest.mark.skipif(not features.check("raqm"), reason="Pillow finds no libfribidi here to compare with")


@needs_raqm
@pytest.mark.parametrize("text", TEXTS)
def test_hebrew_is_ordered_as_fribidi_orders_it(text):
    theirs = _drawn(text)
    np.testing.assert_array_equal(_drawn(LEFT_TO_RIGHT.format(visual_order(text))), theirs)
    assert (_drawn(LEFT_TO_RIGHT.format(text)) != theirs).any() or visual_order(text) == text


@needs_raqm
@pytest.mark.parametrize("text", ARABIC)
def test_arabic_is_joined_as_harfbuzz_joins_it(text):
    """Presentation forms are the very glyphs that the shaping engine picks in this font."""
    np.testing.assert_array_equal(_drawn(LEFT_TO_RIGHT.format(visual_order(text))), _drawn(text))


def test_known_orders():
    assert visual_order("plain (text)") == "plain (text)"
    assert visual_order("אבג") == "גבא"
    assert visual_order("אב 12") == "12 בא"
    assert visual_order("ab אב") == "ab בא"
    assert visual_order("(אב)") == "(בא)"


def test_letters_take_the_form_of_their_place():
    names = [unicodedata.name(letter) for letter in join_arabic("بيت")]
    assert [name.rsplit(" ", 2)[-2] for name in names] == ["INITIAL", "MEDIAL", "FINAL"]
    names = [unicodedata.name(letter) for letter in join_arabic("دار")]  # none of these joins to its left
    assert all(name.endswith("ISOLATED FORM") for name in names)
    assert unicodedata.name(join_arabic("لا")) == "ARABIC LIGATURE LAM WITH ALEF ISOLATED FORM"
    assert unicodedata.name(join_arabic("بلا")[1]) == "ARABIC LIGATURE LAM WITH ALEF FINAL FORM"


@settings(deadline=None)
@given(st.text(st.sampled_from("abאבגابتل 0123.,%()-\u0301\u05b7\u200c"), max_size=20))
def test_order_keeps_letters_and_is_stable(text):
    ordered = visual_order(text)
    if not has_rtl(text):
        assert ordered == text
    joined = join_arabic(text) if has_rtl(text) else text
    mirrored = str.maketrans(")", "(")
    assert sorted(ordered.translate(mirrored)) == sorted(joined.translate(mirrored))
