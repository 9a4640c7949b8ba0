"""tools/test.py on each of X-VLM's official protocols: numbers known beforehand, or done again by plain code."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ovdet.data.karpathy import karpathy_test
from ovdet.data.refcoco import read_refcoco
from ovdet.data.referring import refcoco_test
from ovdet.engine.test import main
from ovdet.metrics import captions
from ovdet.xvlm.recipes import base_training

WORDS = "a red blue thing dog two yes no left right".split()
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
SIDE = 64
SIZES = dict(
    image=dict(kind="swin", image_size=SIDE, window=2, width=8, depths=[2, 2, 2], heads=[1, 2, 2], drop_path=0.0),
    text=dict(
        vocabulary=len(VOCABULARY), width=32, heads=4, hidden=64, positions=32, text_layers=2, fusion_layers=2,
        dropout=0.0,
    ),
)  # fmt: skip
IMPORTS = """
from mmengine.dataset import DefaultSampler
from mmengine.runner import TestLoop
from ovdet.data.batches import collate_texts
from ovdet.data.karpathy import karpathy_test
from ovdet.data.nlvr import collate_pairs, nlvr2_pairs
from ovdet.data.referring import refcoco_test
from ovdet.data.vqa import collate_questions, vqa_test
from ovdet.engine.sentences import SecondStageHook, SentenceTraining
from ovdet.metrics.sentence_evaluators import CaptionMetric, GroundingMetric, PairMetric
from ovdet.metrics.sentence_evaluators import QuestionMetric, RetrievalMetric
from ovdet.xvlm.recipes import base_training
"""


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def task_of(tmp_path):
    """A function: settings -> a task with weights that are large enough to matter, and the settings in full."""
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")

    def make(**settings):
        full = {"vocabulary": str(tmp_path / "vocab.txt"), **SIZES, **settings}
        torch.manual_seed(1)
        task = base_training(**full).eval()
        with torch.no_grad():
            for parameter in task.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.2)
        return task, full

    return make


@pytest.fixture
def measure(tmp_path):
    """A function: runs the tool on a task, gives metrics and protocol of the file that it writes."""

    def run(task, settings, dataset, collate, evaluator, hooks=""):
        weights = {f"task.{name}": value for name, value in task.state_dict().items()}
        torch.save({"state_dict": weights}, tmp_path / "weights.pth")
        loader = f"batch_size=2, collate_fn=dict(type={collate}), sampler=dict(type=DefaultSampler, shuffle=False)"
        lines = [
            f"model = dict(type=SentenceTraining, task=dict(type=base_training, **{settings!r}))",
            f"test_dataloader = dict({loader}, dataset=dict({dataset}, side={SIDE}, verify=False))",
            f"test_evaluator = dict(type={evaluator})",
            "test_cfg = dict(type=TestLoop)",
            f"custom_hooks = [{hooks}]",
        ]
        (tmp_path / "config.py").write_text(IMPORTS + "\n".join(lines) + "\n")
        out = tmp_path / "out.json"
        main([*(str(tmp_path / name) for name in ("config.py", "weights.pth")), "--work-dir", str(tmp_path / "work"),
              "--out", str(out)])  # fmt: skip
        result = json.loads(out.read_text())
        protocol = result["protocol"]
        assert protocol["weights_sha256"] == sha256(tmp_path / "weights.pth") and len(protocol["split_sha256"]) == 64
        assert protocol["command"].startswith("python tools/test.py ") and protocol["metric"]
        return result["metrics"], protocol

    return run


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_picture(path, size_wh):
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(hashlib.sha256(path.name.encode()).digest()[:4])
    pixels = np.random.default_rng(seed).integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


def answer_always(layers, values):
    """Rig a head: whatever goes in, its last layer says this."""
    last = [layer for layer in layers.modules() if isinstance(layer, nn.Linear)][-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(values))


# ---- grounding

PICTURES = {1: (100, 80), 2: (5, 10)}
SENTENCES = [
    ("the red thing", 1, [40, 24, 20, 32], "testA"),
    ("a dog", 1, [0, 0, 20, 20], "testA"),
    ("two dog left", 2, [2, 3, 1, 4], "testB"),
]


def write_refcoco(folder, sentences, pictures):
    """Files of an official data set with one sentence an object."""
    rows, boxes = [], []
    for number, (text, picture, box, split) in enumerate(sentences):
        said = [{"raw": text, "sent": text, "sent_id": number, "tokens": text.split()}]
        rows.append({"ref_id": number, "ann_id": number, "category_id": 1, "image_id": picture, "split": split,
                     "file_name": "", "sent_ids": [number], "sentences": said})  # fmt: skip
        boxes.append({"id": number, "image_id": picture, "category_id": 1, "bbox": box})
    images = [{"id": key, "file_name": f"{key}.png", "width": w, "height": h} for key, (w, h) in pictures.items()]
    (folder / "refcoco+").mkdir()
    (folder / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps(rows, 2))
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "refcoco+" / "instances.json").write_text(json.dumps(content))
    for key, size_wh in pictures.items():
        save_picture(folder / f"{key}.png", size_wh)
    return dict(root=str(folder), name="refcoco+", division="unc", picture_root=str(folder))


def test_boxes(task_of, measure, tmp_path):
    """One box of three sentences; another is one pixel wide, which RefCOCO's official code never counts as right."""
    files = write_refcoco(tmp_path, SENTENCES, PICTURES)
    task, settings = task_of(task="box")
    answer_always(task.model.box_head, torch.logit(torch.tensor([0.5, 0.5, 0.2, 0.4])).tolist())
    metrics, protocol = measure(
        task, settings, f"type=refcoco_test, **{files!r}", "collate_texts", "GroundingMetric, prefix='refcoco+'"
    )
    expected = {
        "all_inclusive": 100 / 3, "all_plain": 200 / 3, "all_sentences": 3,
        "testA_inclusive": 50, "testA_plain": 50, "testA_sentences": 2,
        "testB_inclusive": 0, "testB_plain": 100, "testB_sentences": 1,
    }  # fmt: skip
    assert metrics == pytest.approx({f"refcoco+/{name}": value for name, value in expected.items()})
    assert protocol["supervision"] == "boxes" and protocol["sentences"] == 3 and protocol["task"] == {"task": "box"}
    assert protocol["dataset"] == "refcoco+, divided by unc" and "candidates_sha256" not in protocol


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_heat_over_detector_boxes(task_of, measure, tmp_path, exponent):
    """The model's own heat, summed pixel by pixel in each of a detector's boxes."""
    rng = np.random.default_rng(3)
    pictures = {key: (60 + 10 * key, 90 - 10 * key) for key in (1, 2, 3)}
    found = {key: [[*rng.uniform(0, 20, 2), *rng.uniform(5, 35, 2)] for _ in range(4)] for key in pictures}
    sentences = [(text, key, found[key][0], split) for key, split in ((1, "val"), (2, "testA"), (3, "testB"))
                 for text in ("the red thing", "a dog", "two dog left", "blue", "no thing right")]  # fmt: skip
    files = write_refcoco(tmp_path, sentences, pictures)
    (tmp_path / "dets.json").write_text(json.dumps({str(key): boxes for key, boxes in found.items()}))
    files["detector_boxes"] = str(tmp_path / "dets.json")
    task, settings = task_of(task="retrieval", heat=True, layer=1)
    metrics, protocol = measure(
        task, settings, f"type=refcoco_test, **{files!r}", "collate_texts",
        f"GroundingMetric, heat_exponent={exponent}",
    )  # fmt: skip

    right = {"val": [], "testA": [], "testB": []}
    data = refcoco_test(**files, side=SIDE, verify=False)
    for sample in (data[place] for place in range(len(data))):
        boxes, size = found[sample["image_id"]], torch.tensor([sample["size_hw"]])
        for text, (split,) in zip(sample["texts"], sample["tags"], strict=True):
            (answer,) = task.predict(sample["image"][None], [text], torch.tensor([0]), size)
            scores = []
            for x, y, width, height in boxes:
                inside = answer["heat"][int(y) : int(y + height), int(x) : int(x + width)]
                scores.append(sum(map(float, inside.ravel())) / (width * height) ** exponent)
            right[split].append(scores.index(max(scores)) == 0)  # the boxes overlap by less than a half
    all_right = [one for rows in right.values() for one in rows]
    assert 0 < sum(all_right) < len(all_right) == len(read_refcoco(files["root"], "refcoco+", "unc", verify=False))
    for tag, rows in {**right, "all": all_right}.items():
        assert metrics[f"grounding/{tag}_inclusive"] == pytest.approx(100 * sum(rows) / len(rows)), tag
    assert protocol["candidates_sha256"] == sha256(tmp_path / "dets.json")
    assert protocol["heat_exponent"] == exponent and protocol["task"] == {"task": "retrieval", "heat": True, "layer": 1}
    assert protocol["supervision"].startswith("weak")


def test_the_layer_of_heat_is_told_where_the_config_leaves_it_out(task_of, measure, tmp_path):
    files = write_refcoco(tmp_path, SENTENCES, PICTURES)
    (tmp_path / "dets.json").write_text(json.dumps({"1": [[40, 24, 20, 32]], "2": [[2, 3, 1, 4]]}))
    files["detector_boxes"] = str(tmp_path / "dets.json")
    task, settings = task_of(task="retrieval", heat=True, text={**SIZES["text"], "fusion_layers": 4})
    metrics, protocol = measure(task, settings, f"type=refcoco_test, **{files!r}", "collate_texts", "GroundingMetric")
    assert metrics["grounding/all_plain"] == pytest.approx(200 / 3)  # one box a picture, which a sentence does not mean
    assert protocol["task"] == {"task": "retrieval", "heat": True, "layer": 3}  # the official block 9


# ---- retrieval


def write_karpathy(folder, captions_of):
    images = [
        {"filename": f"{number}.png", "imgid": number, "split": "test", "sentences": [{"raw": one} for one in said]}
        for number, said in enumerate(captions_of)
    ]
    (folder / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    for number in range(len(captions_of)):
        save_picture(folder / f"{number}.png", (70, 50))
    return dict(file=str(folder / "dataset_flickr30k.json"), picture_root=str(folder))


def recall(scores, right, k):
    """Percent of rows that have a right one among their k best."""
    hits = [any(place in own for place in np.argsort(-row)[:k]) for row, own in zip(scores, right, strict=True)]
    return 100 * sum(hits) / len(hits)


@torch.no_grad()
def test_retrieval_in_two_stages(task_of, measure, tmp_path):
    """Cosines of all pairs, and matching logits of those that may be ranked, one pair at a time."""
    said = [["A red thing.", "Two dogs left"], ["blue dog"], ["The thing is right", "no"], ["a dog"], ["yes two"],
            ["a blue thing", "a red dog"]]  # fmt: skip
    files, keep = write_karpathy(tmp_path, said), 3
    task, settings = task_of(task="retrieval", by_picture=True)
    metrics, protocol = measure(
        task, settings, f"type=karpathy_test, **{files!r}", "collate_texts", f"RetrievalMetric, keep={keep}",
        "dict(type=SecondStageHook)",
    )  # fmt: skip

    model, data = task.model, karpathy_test(**files, side=SIDE, verify=False)
    pictures = [model.encode_images(task.prepare(data[place]["image"][None])).tokens for place in range(len(data))]
    owner = [place for place, own in enumerate(said) for _ in own]
    texts = [task.tokens([text]) for place in range(len(data)) for text in data[place]["texts"]]
    near, match = np.zeros((2, len(pictures), len(texts)))
    for i, tokens in enumerate(pictures):
        for j, (ids, mask) in enumerate(texts):
            states = model.encode_text(ids, mask)
            near[i, j] = float(model.space.of_images(tokens[:, 0])[0] @ model.space.of_texts(states[:, 0])[0])
            match[i, j] = float(model.match_logits(model.first(states, mask, tokens))[0, 1])
    of_picture = [[j for j, own in enumerate(owner) if own == i] for i in range(len(pictures))]
    of_text = [[own] for own in owner]
    for name, table, second, right in (("TR", near, match, of_picture), ("IR", near.T, match.T, of_text)):
        kept = np.full(table.shape, -100.0)
        for row, values in enumerate(table):
            best = np.argsort(-values)[:keep]
            kept[row, best] = second[row, best]
        assert metrics[f"retrieval/first_{name}@1"] == pytest.approx(recall(table, right, 1))
        assert metrics[f"retrieval/{name}@1"] == pytest.approx(recall(kept, right, 1))
        assert recall(table, right, 1) < 100
    assert metrics["retrieval/IR@1"] != metrics["retrieval/first_IR@1"], "the second stage must say something else"
    assert protocol["dataset"] == "dataset_flickr30k, test" and protocol["pictures"] == 6 and protocol["texts"] == 9
    assert f"the {keep} nearest" in protocol["metric"] and protocol["task"] == {"task": "retrieval", "by_picture": True}


# ---- answers, pairs, captions


def test_answers(task_of, measure, tmp_path):
    """It says "red" to all: ten of ten people did, one of ten, none."""
    known = [["red"] * 10, ["red"] + ["yes"] * 9, ["two dogs"] * 5 + ["2 dogs"] * 5]
    kinds = ["other", "yes/no", "number"]
    asked = [{"question": "Is it a dog?", "image_id": n, "question_id": 10 + n} for n in range(3)]
    notes = [{"question_id": 10 + n, "answers": [{"answer": one} for one in known[n]], "question_type": "is it",
              "answer_type": kinds[n]} for n in range(3)]  # fmt: skip
    paths = [tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json", tmp_path / "v2_mscoco_val2014_annotations.json"]
    paths[0].write_text(json.dumps({"questions": asked}))
    paths[1].write_text(json.dumps({"annotations": notes}))
    for number in range(3):
        save_picture(tmp_path / "val2014" / f"COCO_val2014_{number:012d}.jpg", (70, 50))
    (tmp_path / "answers.json").write_text('["yes", "red", "two dog", "no"]')
    task, settings = task_of(task="vqa", answers=str(tmp_path / "answers.json"), k=2)
    with torch.no_grad():
        task.model.word_head.bias[VOCABULARY.index("red")] = 50.0
    files = dict(questions=str(paths[0]), annotations=str(paths[1]), picture_root=str(tmp_path))
    metrics, protocol = measure(
        task, settings, f"type=vqa_test, **{files!r}", "collate_questions",
        f"QuestionMetric, out={str(tmp_path / 'said.json')!r}",
    )  # fmt: skip
    # one of ten: each of nine sets of nine people holds one equal answer of the three that are enough
    expected = {"answered": 3, "other": 100, "yes/no": 30, "number": 0, "all": 130 / 3}
    assert metrics == pytest.approx({f"vqa/{name}": value for name, value in expected.items()})
    assert json.loads((tmp_path / "said.json").read_text()) == [
        {"question_id": 10 + n, "answer": "red"} for n in range(3)
    ]
    digest = sha256(tmp_path / "answers.json")
    assert protocol["task"] == {"task": "vqa", "k": 2, "answers_sha256": digest} and protocol["questions"] == 3


def test_pairs(task_of, measure, tmp_path):
    """It calls all sentences true; one of four is."""
    labels = ("False", "True", "False", "False")
    rows = [
        {"identifier": f"test1-{n}-0-0", "sentence": "two dog left", "label": label} for n, label in enumerate(labels)
    ]
    (tmp_path / "test1.json").write_text("\n".join(map(json.dumps, rows)))
    for number in range(4):
        for side in range(2):
            save_picture(tmp_path / "test1" / f"test1-{number}-0-img{side}.png", (70, 50))
    task, settings = task_of(task="nlvr")
    answer_always(task.model.head, [0.0, 1.0])
    files = dict(file=str(tmp_path / "test1.json"), picture_root=str(tmp_path))
    metrics, protocol = measure(task, settings, f"type=nlvr2_pairs, **{files!r}", "collate_pairs", "PairMetric")
    assert metrics == {"nlvr/accuracy": 25}
    assert protocol["dataset"] == "NLVR2 test1" and protocol["sentences"] == 4 and protocol["task"] == {"task": "nlvr"}


def test_captions(task_of, measure, tmp_path, monkeypatch):
    """It says "red red" of both pictures: all of one reference's words and pairs of words, none of the other's."""
    pytest.importorskip("pycocoevalcap")
    monkeypatch.setattr(captions, "find_java", lambda: False)
    files = write_karpathy(tmp_path, [["Red, red."], ["A blue dog"]])
    task, settings = task_of(task="caption", prompt="a ", longest=4)
    with torch.no_grad():
        task.model.word_head.bias[VOCABULARY.index("red")] = 50.0
    metrics, protocol = measure(
        task, settings, f"type=karpathy_test, **{files!r}", "collate_texts",
        f"CaptionMetric, out={str(tmp_path / 'said.json')!r}",
    )  # fmt: skip
    said = [{"image_id": n, "caption": "red red"} for n in range(2)]
    assert json.loads((tmp_path / "said.json").read_text()) == said
    # four words of which two are right, two pairs of which one is; the references are five words long
    short = np.exp(1 - 5 / 4)
    expected = {"BLEU-1": 50 * short, "BLEU-2": 50 * short, "ROUGE-L": 50}
    assert {name: metrics[f"caption/{name}"] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert protocol["tokenizer"] == "plain" and protocol["note"].startswith("Java is not found")
    assert protocol["evaluator"].startswith("pycocoevalcap") and protocol["pictures"] == 2
    assert protocol["task"] == {"task": "caption", "prompt": "a ", "longest": 4, "shortest": 5, "beams": 3}
