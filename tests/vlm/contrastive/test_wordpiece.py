import pytest

from ovdet.vlm.contrastive.sentence_tower import SentenceTower
from ovdet.vlm.contrastive.wordpiece import WordPiece, fold

# What BertWordPieceTokenizer of the library `tokenizers` (0.22, lowercase, strip_accents) gives for our vocabulary.
EXPECTED = {
    "Coffee cup": "coffee cup",
    "hot-air balloon's": "hot - air balloon ' s",
    "Crème BRÛLÉE (dessert), $5": "cr ##eme br ##ule ##e ( dessert ) , $ 5",
    "naïve ﬁancée": "naive [UNK]",
    "a\tb\u00a0c\u200bd": "a b cd",
    "日本cat": "[UNK] [UNK] cat",
    "İstanbul Ångström": "istanbul ang ##strom",
    "3.14 1832 u2019’s": "3 . 14 18 ##32 u2 ##0 ##19 [UNK] s",
    "x" * 101 + " dog": "[UNK] dog",
    "שלום": "[UNK]",
    "": "",
    "antidisestablishmentarianism": "anti ##dis ##est ##ab ##lish ##ment ##arian ##ism",
    "don't stop…now": "don ' t stop [UNK] now",
    "a\u0000b\ufffdc": "abc",
    "e\u0301clair": "ec ##lai ##r",
    "snow\u00adman": "snow ##man",
}


@pytest.fixture(scope="module")
def wordpiece():
    return SentenceTower.load().wordpiece


@pytest.mark.parametrize("text", EXPECTED)
def test_splits_as_the_reference_library_does(wordpiece, text):
    tokens = [wordpiece.vocabulary[i] for i in wordpiece.ids(text, limit=128)]
    assert " ".join(tokens) == f"[CLS] {EXPECTED[text]} [SEP]".replace("  ", " ")


def test_every_english_word_can_be_spelled(wordpiece):
    unknown = wordpiece.vocabulary.index("[UNK]")
    for char in map(chr, range(33, 127)):
        assert unknown not in wordpiece.ids(f"{char} q{char.lower()}z", limit=128), char


def test_a_long_text_is_cut_and_still_ends(wordpiece):
    ids = wordpiece.ids("cat " * 300, limit=16)
    assert len(ids) == 16
    assert wordpiece.vocabulary[ids[-1]] == "[SEP]"


@pytest.mark.parametrize("tokens", [["[PAD]", "[UNK]", "[CLS]"], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "a"]])
def test_a_bad_vocabulary_is_refused(tokens):
    with pytest.raises(ValueError, match="vocabulary"):
        WordPiece(tokens)


def test_fold_writes_typographic_forms_as_ascii():
    assert fold("ﬁancée’s “ＣＵＰ” — smørrebrød…") == 'fiancée\'s "CUP" - smorrebrod...'
