import json
import pickle

import pytest
import torch
from PIL import Image

from ovdet.data.batches import fixed_texts
from ovdet.data.captions import SplitText
from ovdet.data.records import LineFiles
from ovdet.data.regions import RegionTexts
from ovdet.errors import InputError
from ovdet.xvlm.small import TowerTokens, shipped_tower
from ovdet.xvlm.tokens import SentenceTokens, clean_sentence, pad_rows, read_vocabulary


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("A man's hat, (red) -- on/off  left.", "a mans hat red on off left"),
        ("Two   dogs!! <person> & co; ~50% #1", "two dogs person & co 50% 1"),
        ('HELLO-world\'s "x" : y', "hello worlds x y"),
        ("one two three four", "one two three"),
    ],
)
def test_cleaning_follows_the_published_examples(text, cleaned):
    assert clean_sentence(text, 3 if "three" in text else 30) == cleaned
    assert clean_sentence(cleaned) == cleaned


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "?!.", "--"])
def test_a_sentence_without_a_word_is_refused(text, tokens):
    with pytest.raises(InputError, match="has no word"):
        tokens([text])
    with pytest.raises(InputError, match="has no word"):
        tokens.check(text)


def test_sentences_begin_with_cls_and_have_no_end(tokens, vocabulary):
    ids, mask = tokens(["The RED square", "playing"])
    named = [[vocabulary[token] for token in row] for row in ids.tolist()]
    assert named == [["[CLS]", "the", "red", "square"], ["[CLS]", "play", "##ing", "[PAD]"]]
    assert mask.tolist() == [[True] * 4, [True, True, True, False]]


def test_long_sentences_are_cut_and_the_place_is_said(tokens, vocabulary, caplog):
    long = " ".join(["dog"] * 29 + ["cat"] + ["hat"] * 9970)
    tokens.check(long, "sentence 4")
    assert "sentence 4 has 10000 words, which is too long; what comes after '... dog dog cat' is left" in caplog.text
    assert len(tokens.ids(long)) == 31 and vocabulary[tokens.ids(long)[-1]] == "cat"
    short = SentenceTokens(vocabulary, max_words=30, max_tokens=5)
    assert len(short.ids(long)) == 5


@pytest.mark.parametrize(("most", "told"), [(6, True), (7, False)])
def test_few_words_of_many_pieces_are_cut_too(vocabulary, caplog, most, told):
    for kind in (SentenceTokens(vocabulary, 30, most), TowerTokens(vocabulary, 30, most + 1)):
        caplog.clear()
        kind.check("played the playing hat", "it")  # six pieces
        assert told == ("it has 4 words, which is too long; what comes after '... the playing'" in caplog.text)


def test_unknown_scripts_are_refused_and_known_words_are_enough(tokens, caplog):
    with pytest.raises(InputError, match="sentence 2, 'красный квадрат', has no word that the model knows"):
        tokens.check("красный квадрат", "sentence 2")
    tokens.check("the red square")
    assert not caplog.text


def test_words_that_are_not_known_are_told_in_one_line(tokens, caplog):
    tokens.check("Собака the dog, & a vase & собака", "sentence 2")
    assert [record.getMessage() for record in caplog.records] == [
        "sentence 2 has words that the model does not know: 'собака', '&', 'vase'; the answer is to the others"
    ]
    caplog.clear()
    TowerTokens().check("собака the dog", "it")
    assert [record.getMessage() for record in caplog.records] == [
        "it has words that the model does not know: 'собака'; the answer is to the others"
    ]


def test_word_pieces_are_looked_up_as_they_are(vocabulary):
    tokens = SentenceTokens((*vocabulary, "-", ".", "'", "s", "t", "shirt", "##at"), max_tokens=7)

    def named(text):
        return [tokens.vocabulary[token] for token in tokens.ids(text)]

    text = pickle.loads(pickle.dumps(SplitText("a t - shirt .")))  # as a loader's worker sends it
    assert named(text) == ["[CLS]", "a", "t", "-", "shirt", "."] and named(str(text)) == ["[CLS]", "a", "t", "shirt"]
    assert named(SplitText("man ' s shirt")) == ["[CLS]", "man", "'", "s", "shirt"]
    assert named(SplitText("h ##at [UNK] vase A")) == ["[CLS]", "[UNK]", "##at", "[UNK]", "[UNK]", "[UNK]"]
    assert named(SplitText("red " * 9)) == ["[CLS]"] + ["red"] * 6
    ids, mask = tokens([SplitText("man ' s hat"), "man's hat"])
    assert mask.sum(1).tolist() == [5, 3] and ids[0].tolist() == tokens.ids(SplitText("man ' s hat"))


def test_batches_of_split_regions_keep_their_pieces(tmp_path, vocabulary):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    element = {"caption": "t - shirt .", "attributes": "play ##ed", "bb": [5, 5, 20, 20]}
    (tmp_path / "lines.jsonl").write_text(json.dumps({"elems": [element], "image_rpath": "a.png"}))
    data = RegionTexts(LineFiles([tmp_path / "lines.jsonl"]), side=32, picture_root=tmp_path, tokenized=True)
    batch = fixed_texts([next(iter(data))], 2)
    tokens = SentenceTokens((*vocabulary, "-", ".", "t", "shirt"))
    expected = ["[CLS]", "play", "##ed", "t", "-", "shirt", "."]
    assert [[tokens.vocabulary[token] for token in row] for row in tokens(batch["texts"])[0].tolist()] == [expected] * 2


def test_rows_are_padded_to_the_longest():
    ids, mask = pad_rows([[3], [], [4, 5]], -100)
    assert ids.tolist() == [[3, -100], [-100, -100], [4, 5]]
    assert mask.tolist() == [[True, False], [False, False], [True, True]]
    assert pad_rows([], 0)[0].shape == (0, 1)


def test_vocabularies_are_read_from_a_file(tmp_path, vocabulary):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    assert read_vocabulary(path) == vocabulary
    path.write_text("a\nb\n")
    with pytest.raises(InputError, match="no BERT vocabulary"):
        read_vocabulary(path)
    with pytest.raises(InputError, match="cannot read"):
        read_vocabulary(tmp_path / "none.txt")
    with pytest.raises(InputError, match="no BERT vocabulary"):
        SentenceTokens(["a", "b"])
    with pytest.raises(InputError):
        SentenceTokens(vocabulary, max_words=0)


def test_the_towers_tokens_are_those_of_the_tower():
    tower, own = shipped_tower(), TowerTokens()
    texts = ["a red cat", "the “large” dog’s café"]
    ids, mask = own(texts)
    expected, expected_mask = tower.tokenize(["a red cat", "the large dogs café"])
    assert torch.equal(ids, expected) and torch.equal(mask, expected_mask)
    assert own.pieces("a cat") == own.ids("a cat")[1:-1]
