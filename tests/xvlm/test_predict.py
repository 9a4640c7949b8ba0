import warnings

import numpy as np
import pytest
import torch

from ovdet.errors import CapabilityError, InputError
from ovdet.xvlm.build import xvlm, xvlm_small
from ovdet.xvlm.candidates import SEVERAL
from ovdet.xvlm.closer import CloserLook
from ovdet.xvlm.images import square_picture
from ovdet.xvlm.predict import XVLMGrounder
from ovdet.xvlm.small import TowerTokens, chance_of_truth
from ovdet.xvlm.weights import XVLMFacts, load_model, save_model


def picture(height=40, width=60, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def desk(model, tokens, vocabulary, threshold=0.0):
    facts = XVLMFacts("xvlm", model.recipe["arguments"], vocabulary, threshold=threshold)
    return XVLMGrounder(model, tokens, facts)


@pytest.fixture
def grounder(model, tokens, vocabulary):
    return desk(model, tokens, vocabulary)


SENTENCES = ["the red square", "a dog left of the cat", "playing"]


def test_one_box_and_a_confidence_for_each_sentence(grounder, model, tokens):
    answers = grounder.predict([picture()], SENTENCES)[0]
    assert [answer.expression for answer in answers] == SENTENCES
    pixels = model.image_encoder.normalise(square_picture(picture(), 64))[None]
    for text, answer in zip(SENTENCES, answers, strict=True):  # one at a time, by the model's own parts
        ids, mask = tokens([text])
        with torch.no_grad():
            fused = model.first(model.encode_text(ids, mask), mask, model.encode_images(pixels).tokens)
            x, y, w, h = model.boxes_of(fused)[0].tolist()
            score = model.match_logits(fused).softmax(1)[0, 1].item()
        box = np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * [60, 40, 60, 40]
        np.testing.assert_allclose(answer.box_xyxy, box.clip(0, [60, 40, 60, 40]), atol=1e-3)
        assert answer.score == pytest.approx(score, abs=1e-5) == answer.confidence
        assert answer.size_hw == (40, 60) and not answer.absent


def test_a_picture_is_encoded_once_for_any_number_of_sentences(grounder, model):
    looks, sentences = [], []
    model.image_encoder.register_forward_hook(lambda *_: looks.append(1))
    model.text_encoder.register_forward_hook(lambda _, inputs, __: sentences.append(len(inputs[0])))
    encoded = grounder.encode(picture())
    for _ in range(3):
        grounder.ground(encoded, SENTENCES)
    assert len(looks) == 1 and sentences == [3, 3, 3]
    read = grounder.read(SENTENCES)
    for seed in range(3):
        grounder.ground(grounder.encode(picture(seed=seed)), read)
    assert len(looks) == 4 and len(sentences) == 4


def test_the_blocks_of_computation_do_not_show(grounder, monkeypatch):
    boxes = np.array([[0, 0, 20, 20], [10, 5, 60, 40], [30, 30, 31, 31], [0, 0, 60, 40]], np.float32)
    encoded = grounder.encode(picture())
    together = grounder.ground(encoded, SENTENCES), grounder.ground(encoded, SENTENCES, candidates_xyxy=boxes)
    monkeypatch.setattr("ovdet.xvlm.predict.BLOCK", 2)
    apart = grounder.ground(encoded, SENTENCES), grounder.ground(encoded, SENTENCES, candidates_xyxy=boxes)
    for one, other in zip(together[0] + together[1], apart[0] + apart[1], strict=True):
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1e-3)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_candidates_are_each_matched_with_the_sentence(grounder, model, tokens):
    boxes = np.array([[0, 0, 20, 20], [10, 5, 60, 40], [30, 30, 31, 31]], np.float32)
    encoded = grounder.encode(picture())
    scores = grounder.match_regions(encoded, grounder.read(SENTENCES), boxes)
    assert scores.shape == (3, 3)
    for k, text in enumerate(SENTENCES):
        ids, mask = tokens([text])
        for r, box in enumerate(boxes):
            x1, y1, x2, y2 = box * [64 / 60, 64 / 40, 64 / 60, 64 / 40]
            region = model.image_encoder.region_masks(torch.tensor([[x1, y1, x2 - x1, y2 - y1]], dtype=torch.float64))
            seen = model.image_encoder.regions(encoded.encoded, torch.tensor([0]), region).all()
            with torch.no_grad():
                fused = model.first(model.encode_text(ids, mask), mask, seen, region)
                expected = model.match_logits(fused).softmax(1)[0, 1].item()
            assert scores[k, r].item() == pytest.approx(expected, abs=1e-5)
    answer = grounder.ground(encoded, SENTENCES[:1], candidates_xyxy=boxes, threshold=0.0)[0]
    assert len(answer) == 3 and (np.diff(answer.scores) <= 0).all()
    np.testing.assert_array_equal(answer.boxes_xyxy[0], boxes[int(scores[0].argmax())])
    cut = float(np.sort(scores[0].numpy())[1])
    some = grounder.ground(encoded, SENTENCES[:1], candidates_xyxy=boxes, threshold=cut)[0]
    assert len(some) == int((scores[0] >= cut).sum()) < 3
    none = grounder.ground(encoded, SENTENCES[:1], candidates_xyxy=np.zeros((0, 4)))[0]
    assert none.absent and none.confidence == 0


def test_a_small_model_compares_candidates_with_each_other(monkeypatch, tower):
    monkeypatch.setattr("ovdet.xvlm.predict.shipped_closer", lambda: CloserLook(tower))
    torch.manual_seed(0)
    model = xvlm_small(64, 32, 1, 1)
    grounder = XVLMGrounder(model, TowerTokens(), XVLMFacts("xvlm_small", model.recipe["arguments"]))
    boxes = np.array([[0, 0, 20, 20], [10, 5, 60, 40], [30, 10, 50, 35]], np.float32)
    encoded, read = grounder.encode(picture()), grounder.read(SENTENCES)
    likely = np.array([0.9, 0.1, 0.5], np.float32)
    scores = grounder.score_candidates(encoded, read, boxes, likely)
    with torch.no_grad():
        norm = torch.from_numpy(boxes / [60, 40, 60, 40]).float()
        pixels = torch.from_numpy(picture()).permute(2, 0, 1)
        closer = CloserLook(tower)(pixels, torch.from_numpy(boxes), SENTENCES)
        logits = model.choose(read.states, read.mask, encoded.encoded, norm, torch.from_numpy(likely), closer)
    expected = chance_of_truth(grounder.match(encoded, SENTENCES), logits.amax(1))
    np.testing.assert_allclose(scores.amax(1), expected, atol=1e-6)
    shares = scores / scores.sum(1, keepdim=True)
    logits[1] /= SEVERAL  # "a dog left of the cat" may be several
    np.testing.assert_allclose(shares, logits.softmax(1), atol=1e-5)
    answers = grounder.ground(encoded, SENTENCES, candidates_xyxy=boxes, likelihood=likely, threshold=0.0)
    for answer, row in zip(answers, scores, strict=True):
        np.testing.assert_array_equal(answer.box_xyxy, boxes[int(row.argmax())])
        assert answer.confidence == pytest.approx(float(row.max()), abs=1e-6) and len(answer) == 3
    assert grounder.ground(encoded, SENTENCES, candidates_xyxy=np.zeros((0, 4)))[0].absent


def test_sentences_are_cut_where_the_positions_end(model, vocabulary):
    sizes = model.recipe["arguments"]
    few = {**sizes, "text": {**sizes["text"], "positions": 7}}
    assert XVLMFacts("xvlm", few, vocabulary).make_tokens().max_tokens == 7
    assert XVLMFacts("xvlm", sizes, vocabulary).make_tokens().max_tokens == 40


def test_what_falls_below_the_threshold_is_absent(model, tokens, vocabulary):
    grounder = desk(model, tokens, vocabulary, threshold=1.0)
    encoded = grounder.encode(picture())
    answer = grounder.ground(encoded, SENTENCES[:1])[0]
    assert answer.absent and answer.box_xyxy is None and 0 < answer.confidence < 1
    assert answer.to_dict()["boxes"] == []
    assert not grounder.ground(encoded, SENTENCES[:1], threshold=0.0)[0].absent


def test_pictures_may_be_matched_with_sentences(grounder):
    encoded = grounder.encode(picture())
    chances = grounder.match(encoded, SENTENCES)
    answers = grounder.ground(encoded, SENTENCES)
    np.testing.assert_allclose(chances, [answer.confidence for answer in answers], atol=1e-6)


def test_pictures_and_sentences_share_a_space(grounder, model, tokens):
    encoded, read = grounder.encode(picture()), grounder.read(SENTENCES)
    one, others = grounder.picture_vector(encoded), grounder.sentence_vectors(read)
    assert one.shape == (16,) and others.shape == (3, 16)
    ids, mask = tokens(SENTENCES)
    with torch.no_grad():
        space = model.space
        np.testing.assert_allclose(one, space.of_images(encoded.encoded.tokens[:, 0])[0], atol=1e-6)
        np.testing.assert_allclose(others, space.of_texts(model.encode_text(ids, mask)[:, 0]), atol=1e-6)
    assert torch.linalg.norm(others, dim=1) == pytest.approx(1, abs=1e-5)


def test_a_box_model_gives_boxes_without_a_confidence(swin_sizes, text_sizes, tokens, vocabulary):
    grounder = desk(xvlm("box", swin_sizes, text_sizes), tokens, vocabulary, threshold=0.9)
    answer = grounder.predict([picture()], SENTENCES[:1])[0][0]
    assert len(answer) == 1 and answer.scores is None and answer.confidence is None
    with pytest.raises(CapabilityError, match="no matching head"):
        grounder.predict([picture()], SENTENCES, candidates_xyxy=[np.array([[0, 0, 5, 5]])])
    with pytest.raises(CapabilityError, match="task 'box' and has no matching head; it is for `ovdet ground`"):
        grounder.match(grounder.encode(picture()), SENTENCES)
    with pytest.raises(CapabilityError, match="no space that pictures and sentences share"):
        grounder.picture_vector(grounder.encode(picture()))
    with pytest.raises(InputError, match="no matching head, and a threshold means nothing to it"):
        grounder.predict([picture()], SENTENCES, threshold=0.5)


def test_a_retrieval_model_matches_candidates_and_draws_no_box(swin_sizes, text_sizes, tokens, vocabulary):
    grounder = desk(xvlm("retrieval", swin_sizes, text_sizes), tokens, vocabulary)
    boxes = np.array([[0, 0, 5, 5], [5, 5, 30, 30]])
    assert len(grounder.predict([picture()], SENTENCES, candidates_xyxy=[boxes])[0][0]) == 2
    with pytest.raises(CapabilityError, match="no box head"):
        grounder.predict([picture()], SENTENCES)


def test_pictures_of_all_shapes_and_no_sentences(grounder):
    for size in ((1, 1), (3, 200), (300, 2)):
        box = grounder.predict([picture(*size)], SENTENCES[:1])[0][0].box_xyxy
        assert box[2] <= size[1] and box[3] <= size[0] and (box >= 0).all()
    assert grounder.predict([picture(), picture()], []) == [[], []]
    assert grounder.predict([], SENTENCES) == []


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda g: g.predict([picture()], "the dog"), "must be a list of strings"),
        (lambda g: g.predict([picture()], ["the dog", " "]), "no word"),
        (lambda g: g.predict([picture().astype(float)], SENTENCES), r"must be an \(H, W, 3\) uint8"),
        (lambda g: g.predict([np.zeros((0, 4, 3), np.uint8)], SENTENCES), "nothing in it"),
        (lambda g: g.predict([picture()], SENTENCES, candidates_xyxy=[]), "1 pictures but candidates for 0"),
        (lambda g: g.predict([picture()], SENTENCES, candidates_xyxy=[np.ones((2, 3))]), r"must be \(R, 4\)"),
        (lambda g: g.predict([picture()], SENTENCES, candidates_xyxy=[[[5, 5, 1, 1]]]), "x1 <= x2"),
        (lambda g: g.predict([picture()], SENTENCES, candidates_xyxy=[[[0, 0, np.nan, 1]]]), "finite"),
    ],
)
def test_mistakes_are_said(grounder, call, reason):
    with pytest.raises(InputError, match=reason):
        call(grounder)


def test_long_sentences_are_warned_of_and_unknown_ones_refused(grounder, caplog):
    grounder.read(["a dog", "dog " * 10000])
    assert "sentence 2 has 10000 words" in caplog.text
    with pytest.raises(InputError, match="sentence 1, 'собака', has no word that the model knows"):
        grounder.read(["собака"])


def test_desks_go_through_files(grounder, tmp_path):
    grounder.save(tmp_path / "model.pth")
    again = XVLMGrounder.load(tmp_path / "model.pth")
    assert again.name == "xvlm:model.pth" and again.facts.vocabulary == grounder.facts.vocabulary
    one, other = (desk.predict([picture()], SENTENCES)[0] for desk in (grounder, again))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=1e-4)
    with pytest.raises(InputError, match="the vocabulary has 4 tokens"):
        path = tmp_path / "vocab.txt"
        path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
        XVLMGrounder.load(tmp_path / "model.pth", vocabulary=path)


def test_a_small_one_goes_through_a_compact_file(tmp_path):
    torch.manual_seed(0)
    model = xvlm_small(64, 32, 1, 1)
    facts = XVLMFacts("xvlm_small", model.recipe["arguments"], threshold=0.25)
    grounder = XVLMGrounder(model, TowerTokens(), facts)
    grounder.save(tmp_path / "small.safetensors")
    again = XVLMGrounder.load(tmp_path / "small.safetensors")
    assert again.facts == facts
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (desk.predict([picture()], ["a red cat"], threshold=0)[0][0] for desk in (grounder, again))
    np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=1)
    assert (tmp_path / "small.safetensors").stat().st_size < sum(p.numel() for p in model.parameters()) * 2.2


def test_checkpoints_say_what_they_are(model, vocabulary, tmp_path):
    facts = XVLMFacts("xvlm", model.recipe["arguments"], vocabulary)
    path = tmp_path / "model.pth"
    save_model(model, facts, path)
    loaded, again = load_model(path)
    assert again.task == "pretrain" and not loaded.training
    assert all(torch.equal(loaded.state_dict()[key], value) for key, value in model.state_dict().items())
    content = torch.load(path)
    for change, reason in (
        (lambda c: c["ovdet"].update(room="vild"), "of room 'vild'"),
        (lambda c: c["ovdet"].update(builder="other"), "builder must be one of"),
        (lambda c: c["ovdet"].update(threshold=2.0), "threshold must lie"),
        (lambda c: c["ovdet"].update(tower="x"), "another sentence tower"),
        (lambda c: c["ovdet"]["arguments"].update(depth=3), "does not take these arguments"),
        (lambda c: c.pop("ovdet"), "does not say how to build"),
        (lambda c: c["state_dict"].pop("space.temperature"), "does not fit the model"),
    ):
        changed = {"state_dict": dict(content["state_dict"]), "ovdet": {**content["ovdet"]}}
        changed["ovdet"]["arguments"] = dict(content["ovdet"]["arguments"])
        change(changed)
        torch.save(changed, path)
        with pytest.raises(InputError, match=reason):
            load_model(path)
    with pytest.raises(InputError, match="not there"):
        load_model(tmp_path / "none.pth")
