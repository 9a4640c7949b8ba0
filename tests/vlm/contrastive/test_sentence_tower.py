import hashlib
import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ovdet.errors import InputError
from ovdet.vlm.contrastive.sentence_tower import FORMAT, WEIGHTS, SentenceTower, packed_tensors

TEACHER = Path(__file__).with_name("minilm_vectors.safetensors")
MEAN_COSINE, LEAST_COSINE = 0.98, 0.95
TEXTS = [
    "cat",
    "a hot air balloon over the hills",
    "",
    "coffee cup",
    "x" * 300,
    "the wheel of an old bicycle in the rain",
]


@pytest.fixture(scope="module")
def tower():
    return SentenceTower.load()


@pytest.fixture(scope="module")
def reference():
    """Texts and the teacher's own vectors of them, computed by sentence-transformers."""
    data = load_file(TEACHER)
    return bytes(data["texts"].tolist()).decode().split("\n"), data["vectors"].float()


def test_close_to_the_teacher(tower, reference):
    texts, vectors = reference
    cosines = (tower.encode(texts) * vectors).sum(1)
    assert cosines.mean() > MEAN_COSINE
    assert cosines.min() > LEAST_COSINE


def test_finds_the_neighbours_that_the_teacher_finds(tower, reference):
    texts, vectors = reference
    ours = tower.encode(texts)
    similar = [(x @ x.T).fill_diagonal_(-1) for x in (ours, vectors)]
    found = similar[0].argmax(1)
    lost = similar[1].amax(1) - similar[1].gather(1, found[:, None])[:, 0]  # of the teacher's similarity
    assert (lost == 0).double().mean() >= 0.85
    assert lost.max() < 0.06
    index = {text: i for i, text in enumerate(texts)}
    for a, b in {"kitten": "cat", "puppy": "dog", "sofa": "couch", "automobile": "car", "pony": "horse"}.items():
        assert similar[0][index[a]].argmax() == index[b]


def test_vectors_are_unit_float32(tower):
    vectors = tower.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), tower.embed_dim)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=1), torch.ones(len(TEXTS)), atol=1e-6)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(TEXTS))), block=st.integers(1, len(TEXTS)))
def test_a_vector_depends_on_its_text_only(tower, order, block):
    alone = torch.cat([tower.encode([text]) for text in TEXTS])
    together = tower.encode([TEXTS[i] for i in order], block=block)
    assert torch.allclose(together, alone[list(order)], atol=1e-6)


def test_what_stands_at_padded_places_does_not_matter(tower):
    ids, mask = tower.tokenize(["cat", "a photo of two cats"])
    expected = tower(ids, mask)
    assert torch.allclose(tower(ids.where(mask, torch.tensor(777)), mask), expected, atol=1e-6)


def plain_bert(state, ids):
    """The vector of one text without any of torch's layers: BERT's equations (arXiv:1810.04805), mean, unit length."""

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-12).sqrt()
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    x = norm(state["tokens.weight"][ids] + state["positions.weight"][: len(ids)], "norm")
    for i in range(6):
        layer = f"layers.{i}"
        attention = f"{layer}.self_attn"
        q, k, v = (x @ state[f"{attention}.in_proj_weight"].T + state[f"{attention}.in_proj_bias"]).chunk(3, dim=1)
        heads = []
        for h in range(0, 384, 32):
            weights = ((q[:, h : h + 32] @ k[:, h : h + 32].T) / math.sqrt(32)).exp()
            heads.append(weights / weights.sum(1, keepdim=True) @ v[:, h : h + 32])
        mixed = torch.cat(heads, 1) @ state[f"{attention}.out_proj.weight"].T + state[f"{attention}.out_proj.bias"]
        x = norm(x + mixed, f"{layer}.norm1")
        hidden = x @ state[f"{layer}.linear1.weight"].T + state[f"{layer}.linear1.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        x = norm(x + hidden @ state[f"{layer}.linear2.weight"].T + state[f"{layer}.linear2.bias"], f"{layer}.norm2")
    mean = x.mean(0)
    return mean / mean.norm()


@pytest.mark.parametrize("text", ["cat", "a photo of a fire hydrant next to the road"])
def test_forward_is_berts_equations(tower, text):
    ids, _ = tower.tokenize([text])
    state = {name: value.double() for name, value in tower.state_dict().items()}
    assert torch.allclose(tower.encode([text])[0].double(), plain_bert(state, ids[0]), atol=2e-6)


def test_case_accents_and_typography_do_not_matter(tower):
    vectors = tower.encode(["Crème Brûlée", "creme brulee", "farmer’s market", "farmer's market"])
    assert torch.allclose(vectors[0], vectors[1], atol=1e-6)
    assert torch.allclose(vectors[2], vectors[3], atol=1e-6)


def test_no_texts_and_one_string(tower):
    assert tower.encode([]).shape == (0, 384)
    with pytest.raises(InputError, match=r"\['coffee cup'\]"):
        tower.encode("coffee cup")


def test_the_shipped_file_is_small_and_named_by_its_hash(tower):
    assert WEIGHTS.stat().st_size <= 10_000_000
    assert tower.fingerprint == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
    assert not tower.training


def test_writing_and_reading_again_changes_nothing(tower, tmp_path):
    stored = load_file(WEIGHTS)
    scales = {name.removesuffix(".scales"): value for name, value in stored.items() if name.endswith(".scales")}
    again = packed_tensors(tower, scales)
    assert again.keys() == stored.keys()
    assert all(torch.equal(again[name], value) for name, value in stored.items())


def without_a_tensor(tensors):
    del tensors["layers.3.linear1.weight.scales"]


def with_one_too_many(tensors):
    tensors["more"] = torch.zeros(1)


def with_a_wrong_shape(tensors):
    tensors["norm.bias"] = torch.zeros(7)


def not_finite(tensors):
    tensors["layers.0.linear1.weight.scales"][5, 2] = torch.inf


def without_a_vocabulary(tensors):
    del tensors["vocabulary"]


@pytest.mark.parametrize(
    "damage", [without_a_tensor, with_one_too_many, with_a_wrong_shape, not_finite, without_a_vocabulary]
)
def test_a_file_with_other_tensors_is_refused(tmp_path, damage):
    tensors = load_file(WEIGHTS)
    damage(tensors)
    save_file(tensors, tmp_path / "bad.safetensors", metadata={"format": FORMAT})
    with pytest.raises(InputError, match="is not a readable sentence tower") as caught:
        SentenceTower.load(tmp_path / "bad.safetensors")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a safetensors file at all", None])
def test_a_damaged_or_missing_file_is_refused(tmp_path, content):
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="reinstall ovdet"):
        SentenceTower.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:-1000])
    with pytest.raises(InputError, match="reinstall ovdet"):
        SentenceTower.load(tmp_path / "cut.safetensors")


def test_another_kind_of_file_is_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="format None"):
        SentenceTower.load(tmp_path / "other.safetensors")
