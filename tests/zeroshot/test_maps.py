import numpy as np
import pytest
import torch

from ovdet.zeroshot.config import ZeroShotConfig
from ovdet.zeroshot.maps import View, grid_size, look, name_maps, on_grid, view_size
from ovdet.zeroshot.matching import BackgroundMatcher, OwnMatcher, make_matcher

CONFIG = ZeroShotConfig()


@pytest.mark.parametrize("size_hw", [(480, 640), (1, 1), (20, 30000), (30000, 20), (7, 9000), (4000, 6000)])
def test_views_are_bounded_whatever_the_picture(size_hw):
    for side in CONFIG.view_sides:
        height, width = view_size(size_hw, side, CONFIG)
        assert height % 32 == width % 32 == 0 and min(height, width) >= 32
        assert max(height, width) <= CONFIG.longest_ratio * side + 16
    rows, columns = grid_size(size_hw, CONFIG)
    assert 4 <= min(rows, columns) and max(rows, columns) <= CONFIG.grid


def test_an_ordinary_view_has_the_asked_area_and_shape():
    height, width = view_size((480, 640), 448, CONFIG)
    assert height * width == pytest.approx(448**2, rel=0.1) and width / height == pytest.approx(4 / 3, rel=0.1)


def test_grid_reads_a_ramp_at_the_right_places():
    """A map whose value is the place it looks at must read as the place of each grid cell."""
    for offset in (0.0, 0.5):
        cells = (np.arange(8, dtype=np.float32) + offset)[None, :].repeat(4, axis=0)  # column centres, in cells
        view = View(torch.zeros(4, 8, 1), offset, (4.0, 8.0), mirrored=False)
        seen = on_grid(cells, view, 16, 32)
        expected = (np.arange(32) + 0.5) / 4
        inner = (expected > 0.5) & (expected < 7)
        np.testing.assert_allclose(seen[5][inner], expected[inner], atol=1e-5)


def test_mirrored_views_are_mirrored_back():
    cells = np.random.default_rng(0).random((4, 8), dtype=np.float32)
    straight = View(torch.zeros(4, 8, 1), 0.5, (4.0, 8.0), mirrored=False)
    mirrored = View(torch.zeros(4, 8, 1), 0.5, (4.0, 8.0), mirrored=True)
    np.testing.assert_allclose(on_grid(cells[:, ::-1], mirrored, 12, 24), on_grid(cells, straight, 12, 24), atol=1e-6)


def test_maps_of_many_names_are_the_maps_of_each(backbone, small_cat, monkeypatch):
    config = ZeroShotConfig(view_sides=(96, 128, 160), mirror_below=100)
    looks = look(backbone, small_cat, config)
    assert [len(views) for views in looks] == [2, 1, 1]
    names = ["cat", "animal", "tiger", "dog", "qwxzv"]
    embeddings = backbone.encode_text(names)
    size_hw = small_cat.shape[:2]
    together = dict(name_maps(looks, make_matcher(backbone, embeddings), size_hw, config, 0.01))
    assert 4 not in together and 0 in together
    monkeypatch.setattr("ovdet.zeroshot.matching.BLOCK", 2)
    blocks = dict(name_maps(looks, make_matcher(backbone, embeddings), size_hw, config, 0.01))
    assert together.keys() == blocks.keys()
    for index, maps in together.items():
        alone = dict(name_maps(looks, make_matcher(backbone, embeddings[index : index + 1]), size_hw, config, 0.01))
        np.testing.assert_allclose(maps, blocks[index], atol=1e-6)
        np.testing.assert_allclose(maps, alone[0], atol=1e-6)
        assert maps.shape == (3, 64, 128) and maps.min() >= 0 and maps.max() <= 1


def test_a_backbone_that_can_match_matches_itself(backbone):
    assert isinstance(make_matcher(backbone, backbone.encode_text(["cat"])), OwnMatcher)


def test_background_matcher_is_a_softmax_of_one_name_against_the_background():
    generator = torch.Generator().manual_seed(0)
    names, background, vectors = (
        torch.nn.functional.normalize(torch.randn(n, 8, generator=generator), dim=1) for n in (3, 5, 7)
    )
    found = BackgroundMatcher(names, background, temperature=0.1).probabilities(vectors, 0)
    for k in range(3):
        logits = torch.cat([vectors @ names[k : k + 1].T, vectors @ background.T], dim=1) / 0.1
        torch.testing.assert_close(found[:, k], logits.softmax(dim=1)[:, 0])


def test_a_background_word_does_not_compete_with_its_own_name():
    background = torch.eye(3)
    found = BackgroundMatcher(background[:1], background, temperature=0.1).probabilities(background, 0)
    assert found[0, 0] > 0.99
