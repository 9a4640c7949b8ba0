"""No label turns into empty boxes: a font that has the letters is found, or they are written out."""

import logging

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

from ovdet.draw import fonts

USUAL = fonts.font_for(frozenset("a"))


@pytest.fixture
def own_fonts(tmp_path, monkeypatch):
    """Only this folder for system fonts, with nothing remembered from before."""

    def forget():
        for function in (fonts.font_for, fonts.system_fonts, fonts._log_once, fonts._has_glyph, fonts._missing_glyph):
            function.cache_clear()

    monkeypatch.setattr(fonts, "_font_folders", lambda: (tmp_path,))
    forget()
    yield tmp_path
    forget()


def _make_font(path, letters: str) -> None:
    """A font in which every letter is a triangle, and a missing one is a square."""

    def outline(*points):
        pen = TTGlyphPen(None)
        pen.moveTo(points[0])
        for point in points[1:]:
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    names = [".notdef", *(f"u{ord(letter):X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    square, triangle = outline((0, 0), (0, 700), (700, 700), (700, 0)), outline((0, 0), (350, 700), (700, 0))
    builder.setupGlyf({name: square if name == ".notdef" else triangle for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (800, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Made", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(exist_ok=True)
    builder.save(path)


def test_the_usual_font_covers_what_its_own_table_says():
    """Our look at the drawn glyph agrees with the font's character map, read by fontTools."""
    table = TTFont(USUAL).getBestCmap()
    for letter in "aZ9éßčøŁжЯωΩחתقطة猫あ한กअ🐈…€":
        assert fonts._covers(USUAL, {letter}) == (ord(letter) in table), letter


@pytest.mark.parametrize(
    "text", ["coffee cup 0.95", "ложка", "κουτάλι", "café", "חתול", "قطة", "İstanbul ığüş", "tiếng Việt"]
)
def test_common_scripts_need_no_system_font(own_fonts, text):
    typeset = fonts.typeset(text, 20)
    assert typeset.font.path == str(USUAL)
    table = TTFont(USUAL).getBestCmap()
    assert all(ord(letter) in table for letter in typeset.text)


def test_a_system_font_is_found_for_other_scripts(own_fonts):
    (own_fonts / "broken.ttf").write_bytes(b"no font")
    _make_font(own_fonts / "latin/made-latin.ttf", "abc")
    _make_font(own_fonts / "cjk/made-cjk.ttf", "猫咪 0.5abc")
    typeset = fonts.typeset("猫 0.5", 20)
    assert typeset.font.path == str(own_fonts / "cjk/made-cjk.ttf") and typeset.text == "猫 0.5"


def test_what_no_font_has_is_written_out_and_said_once(own_fonts, caplog):
    with caplog.at_level(logging.WARNING, logger="ovdet"):
        assert fonts.typeset("猫 cup 0.5", 20).text == "U+732B cup 0.5"
        fonts.typeset("猫 cup 0.6", 20)
    assert len(caplog.messages) == 1 and "猫" in caplog.messages[0]
    assert fonts.typeset("ｃａｔ", 20).text == "cat"  # full-width letters have a base


def test_marks_that_no_font_has_do_not_become_boxes(own_fonts):
    table = TTFont(USUAL).getBestCmap()
    text = fonts.typeset("\u0938\u094d\u0924\u0947 0.5", 20).text  # Devanagari letters, each with a mark
    assert text == "U+0938 U+0924 0.5" and all(ord(letter) in table for letter in text)


def test_without_dejavu_and_system_fonts_pillow_s_own_font_serves(own_fonts, monkeypatch):
    monkeypatch.setattr(fonts, "_usual_font", lambda: None)
    typeset = fonts.typeset("café 猫", 20)
    assert typeset.text == "cafe U+732B" and typeset.box_xyxy[2] > 60


def test_line_breaks_and_control_characters_are_not_drawn(own_fonts):
    assert fonts.typeset("hot\nair\tballoon\x00", 20).text == "hot air balloon"


@pytest.mark.parametrize("engine", [ImageFont.Layout.BASIC, ImageFont.Layout.RAQM])
def test_right_to_left_is_the_same_with_and_without_fribidi(monkeypatch, engine):
    """The first letter of a Hebrew word stands rightmost, whichever layout engine Pillow has."""
    real = ImageFont.truetype
    monkeypatch.setattr(ImageFont, "truetype", lambda path, size, **_: real(path, size, layout_engine=engine))
    fonts._load.cache_clear()
    typeset = fonts.typeset("ווווםםםם", 30)  # vav is thin, final mem is wide
    canvas = Image.new("L", (400, 60))
    ImageDraw.Draw(canvas).text((5, 5), typeset.text, font=typeset.font, fill=255)
    fonts._load.cache_clear()
    columns = np.asarray(canvas).any(axis=0)
    strokes = np.diff(np.flatnonzero(np.diff(columns.astype(int))))[::2]  # widths of the eight letters
    assert len(strokes) == 8 and strokes[:4].min() > 2 * strokes[4:].max()
