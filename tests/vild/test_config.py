import pytest

from ovdet.errors import InputError
from ovdet.vild.config import ViLDConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "vldi"),
        ("embed_dim", 0),
        ("temperature", 0.0),
        ("test_temperature", -0.01),
        ("distill_weight", -1.0),
        ("base_text_exponent", 1.5),
        ("max_per_img", 0),
    ],
)
def test_nonsense_is_refused_by_name(field, value):
    with pytest.raises(InputError, match=field):
        ViLDConfig(**{field: value})


def test_train_and_test_temperatures_are_separate():  # pitfall 6
    config = ViLDConfig(test_temperature=0.007)
    assert (config.temperature, config.test_temperature) == (0.01, 0.007)


def test_what_each_variant_learns_from():
    table = {
        name: (ViLDConfig(name).learns_classes, ViLDConfig(name).distills)
        for name in ("text", "image", "vild", "ensemble")
    }
    assert table == {"text": (True, False), "image": (False, True), "vild": (True, True), "ensemble": (True, True)}
