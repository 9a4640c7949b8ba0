import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ovdet.errors import InputError
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.vlm.prompts import TEMPLATE_SETS, check_names, class_embeddings, clean_name, fill_templates

SPEC = BackboneSpec("hashed", "contrastive", 7, 8, (0, 0, 0), (1, 1, 1), "Apache-2.0")


class HashedTexts(VLMBackbone):
    """A text's vector is drawn with its hash as seed; counts what it is asked."""

    def __init__(self, seed=0, has_fingerprint=True):
        super().__init__(SPEC)
        self.seed, self.has_fingerprint, self.asked = seed, has_fingerprint, []

    @property
    def fingerprint(self):
        if not self.has_fingerprint:
            raise NotImplementedError
        return f"hashed {self.seed}"

    def vector(self, text):
        digest = hashlib.sha256(f"{self.seed} {text}".encode()).digest()
        return np.random.default_rng(list(digest)).standard_normal(7)

    def encode_text(self, texts):
        self.asked.extend(texts)
        return torch.from_numpy(np.stack([self.vector(text) for text in texts]))

    def encode_image(self, images):
        raise NotImplementedError

    def forward_dense(self, images):
        raise NotImplementedError


def by_hand(backbone, name, templates):
    """The mean of unit vectors, as numpy says."""
    vectors = np.stack([backbone.vector(text) for text in fill_templates(name, templates)])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.mean(axis=0) / np.linalg.norm(vectors.mean(axis=0))


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("arctic_(type_of_shoe)", "arctic (type of shoe)"),
        ("television_set", "television set"),
        ("TV/monitor", "tv or monitor"),
        ("Ferris_wheel", "ferris wheel"),
        ("sgt.", "sgt"),
        ("  hot   air\tballoon ", "hot air balloon"),
        ("Cafe\u0301", "caf\u00e9"),
        ("كوب", "كوب"),
        ("...", ""),
    ],
)
def test_names_are_cleaned(name, cleaned):
    assert clean_name(name) == cleaned
    assert clean_name(cleaned) == cleaned


def test_vild_has_63_templates_58_of_them_with_this_is():
    for name in ("cat", "arctic_(type_of_shoe)", "a", "umbrella"):
        texts = fill_templates(name, "vild63")
        assert len(texts) == len(set(texts)) == 63
        assert sum(text.startswith("This is ") for text in texts) == 58
        assert sorted(text.split()[0] for text in texts if not text.startswith("This is ")) == [
            *["There"] * 2,
            *["itap"] * 3,
        ]
        assert all(text.endswith(".") and clean_name(name) in text for text in texts)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("umbrella", "There is an umbrella in the scene."),
        ("cat", "itap of my cat."),
        ("cat", "This is a photo of many cat."),
        ("cat", "This is a photo of the hard to see cat."),
        ("orange", "This is a low resolution photo of an orange."),
        ("orange", "This is a photo of a large orange."),
        ("orange", "This is an embroidered orange."),
        ("cat", "This is the plushie cat."),
        ("cat", "This is a black and white photo of the cat."),
        ("cat", "This is a painting of a cat."),
    ],
)
def test_templates_of_the_published_list_are_there(name, text):
    assert text in fill_templates(name, "vild63")


def test_the_article_follows_the_cleaned_name():
    for name in ("apple", "Apple", "_Apple"):
        assert fill_templates(name) == ["a photo of an apple."]
    assert fill_templates("hourglass") == ["a photo of a hourglass."]
    assert fill_templates("{name} and {0}", "name") == ["{name} and {0}"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "empty"),
        ("cat, dog", "list of names"),
        (["cat", " _ "], r"class name 1 is blank"),
        (["cat", "dog", "Cat."], r"class name 2 \('Cat.'\) is the same as class name 0 \('cat'\)"),
        (["cat", None], r"class name 1 must be a text"),
    ],
)
def test_bad_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        check_names(names)
    with pytest.raises(InputError, match=message):
        class_embeddings(HashedTexts(), names)


def test_names_come_back_as_they_are():
    assert check_names(("Cat", "hot_dog")) == ["Cat", "hot_dog"]


def test_unknown_template_sets_are_refused():
    with pytest.raises(InputError, match="vild63"):
        class_embeddings(HashedTexts(), ["cat"], templates="vild64")


@pytest.mark.parametrize("templates", list(TEMPLATE_SETS))
@pytest.mark.parametrize("block", [1, 64, 256])
def test_embeddings_are_means_of_unit_vectors(templates, block, tmp_path):
    backbone, names = HashedTexts(), ["cat", "Hot_dog", "aerosol can/spray can"]
    embeddings = class_embeddings(backbone, names, templates=templates, block=block, cache_dir=tmp_path)
    assert embeddings.dtype == torch.float32
    expected = [by_hand(backbone, name, templates) for name in names]
    np.testing.assert_allclose(embeddings.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(embeddings.norm(dim=1).numpy(), 1, atol=1e-6)


def test_names_are_embedded_once(tmp_path):
    backbone = HashedTexts()
    first = class_embeddings(backbone, ["cat", "dog", "hot dog"], cache_dir=tmp_path)
    assert len(backbone.asked) == 3
    second = class_embeddings(backbone, ["zebra", "Hot_Dog", "cat"], cache_dir=tmp_path)
    assert backbone.asked[3:] == ["a photo of a zebra."]
    assert torch.equal(second[1:], first[[2, 0]])
    class_embeddings(HashedTexts(), ["cat", "dog"], cache_dir=tmp_path)
    assert len(backbone.asked) == 4


def test_other_weights_or_templates_do_not_share_vectors(tmp_path):
    one = class_embeddings(HashedTexts(0), ["cat"], cache_dir=tmp_path)
    assert not torch.equal(one, class_embeddings(HashedTexts(1), ["cat"], cache_dir=tmp_path))
    assert not torch.equal(one, class_embeddings(HashedTexts(0), ["cat"], templates="name", cache_dir=tmp_path))
    assert torch.equal(one, class_embeddings(HashedTexts(0), ["cat"], cache_dir=tmp_path))


def test_the_cache_lies_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("OVDET_HOME", str(tmp_path / "home"))
    class_embeddings(HashedTexts(), ["cat"])
    assert list((tmp_path / "home").iterdir())


def test_without_a_fingerprint_nothing_is_kept(tmp_path):
    backbone = HashedTexts(has_fingerprint=False)
    class_embeddings(backbone, ["cat"], cache_dir=tmp_path)
    class_embeddings(backbone, ["cat"], cache_dir=tmp_path)
    assert len(backbone.asked) == 2
    assert not list(tmp_path.iterdir())


def test_a_broken_cache_changes_nothing_but_a_warning(tmp_path, caplog):
    expected = class_embeddings(HashedTexts(), ["cat", "dog"], cache_dir=tmp_path / "sound")
    (tmp_path / "file").write_text("not a folder")
    with caplog.at_level("WARNING"):
        assert torch.equal(class_embeddings(HashedTexts(), ["cat", "dog"], cache_dir=tmp_path / "file"), expected)
    assert [record.getMessage().endswith("going on without it") for record in caplog.records] == [True]


def test_ten_thousand_names(tmp_path):
    backbone, names = HashedTexts(), [f"thing number {n}" for n in range(10_000)]
    embeddings = class_embeddings(backbone, names, cache_dir=tmp_path, block=2000)
    assert embeddings.shape == (10_000, 7)
    assert torch.equal(class_embeddings(backbone, names[::-1], cache_dir=tmp_path).flip(0), embeddings)
    assert len(backbone.asked) == 10_000


NAMES = ["cat", "hot air balloon", "arctic (type of shoe)", "tv or monitor", "zebra", "orange", "x", "كوب", "咖啡"]


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(range(len(NAMES))),
    cut=st.integers(1, len(NAMES) - 1),
    block=st.integers(1, 20),
    kind=st.sampled_from(["resnet", "vit"]),
    cached=st.booleans(),
)
def test_permuting_and_splitting_changes_no_bit_of_clip(tiny_clips, tmp_path_factory, order, cut, block, kind, cached):
    home = tmp_path_factory.mktemp("cache")
    whole = class_embeddings(tiny_clips[kind], NAMES, cache_dir=home)
    if not cached:
        home = tmp_path_factory.mktemp("cache")
    permuted = [NAMES[index] for index in order]
    parts = [
        class_embeddings(tiny_clips[kind], part, cache_dir=home, block=block)
        for part in (permuted[:cut], permuted[cut:])
    ]
    assert torch.equal(torch.cat(parts), whole[list(order)])


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(len(NAMES))))
def test_the_label_is_the_index_into_the_callers_list(tiny_clips, tmp_path_factory, order):
    clip, home = tiny_clips["vit"], tmp_path_factory.mktemp("cache")
    pictures = clip.encode_image(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    names = [NAMES[index] for index in order]
    expected = pictures @ class_embeddings(clip, NAMES, cache_dir=home).T  # (4, K)
    scores = pictures @ class_embeddings(clip, names, cache_dir=home).T
    torch.testing.assert_close(scores, expected[:, list(order)], atol=1e-6, rtol=0)
    assert [names[label] for label in scores.argmax(dim=1)] == [NAMES[label] for label in expected.argmax(dim=1)]


@pytest.mark.parametrize("names", [None, 3, {"cat", "dog"}, frozenset({"cat"})])
def test_names_must_come_in_an_order(names):
    with pytest.raises(InputError, match=f"list of names, got {type(names).__name__}"):
        check_names(names)
