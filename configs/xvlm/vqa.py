"""X-VLM base on VQAv2 at 384 pixels, with Visual Genome's questions.   tools/dist_train.sh configs/xvlm/vqa.py 8

Official README: 78.22 test-dev, 78.37 test-std (16M).
The last of 10 passes is the published one. Then the test's answers are written to work_dirs/vqa_answers.json, for the
server; tools/test.py scores the official val questions, which were learned too: docs/grounding_data.md has more.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler
from mmengine.optim import OptimWrapper
from torch.optim import AdamW

from ovdet.data.sampling import SeededSampler
from ovdet.data.vqa import collate_questions, question_lists_test, question_lists_training, vqa_test
from ovdet.engine.passes import LinearUpAndDown, PassLoop
from ovdet.engine.sentences import ByName, SentenceTraining
from ovdet.metrics.sentence_evaluators import QuestionMetric
from ovdet.xvlm.recipes import base_training

with read_base():
    from .._base_.sentences import *

model = dict(
    type=SentenceTraining,
    task=dict(
        type=base_training,
        task="vqa",
        vocabulary=vocabulary,
        image_size=384,
        max_words=50,
        max_tokens=40,
        answers="data/vqa/answer_list.json",
        k=128,
        start="data/xvlm/16m_base.pth",
    ),
)
train_dataloader = dict(
    batch_size=24,
    collate_fn=dict(type=collate_questions),
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=SeededSampler, seed=0),
    dataset=dict(
        type=question_lists_training,
        files=["data/vqa/vqa_train.json", "data/vqa/vqa_val.json", "data/vqa/vg_qa.json"],
        roots=dict(vqa="data/coco", vg="data/visualgenome"),
        side=384,
    ),
)
val_dataloader = dict(
    batch_size=32,
    collate_fn=dict(type=collate_questions),
    num_workers=4,
    sampler=dict(type=DefaultSampler, shuffle=False),
    dataset=dict(type=question_lists_test, files=["data/vqa/vqa_test.json"], picture_root="data/coco", side=384),
)
official_val = dict(
    type=vqa_test,
    questions="data/vqa/v2_OpenEnded_mscoco_val2014_questions.json",
    annotations="data/vqa/v2_mscoco_val2014_annotations.json",
    picture_root="data/coco",
    side=384,
)
test_dataloader = {**val_dataloader, "dataset": official_val}
val_evaluator = dict(type=QuestionMetric, out="work_dirs/vqa_answers.json")
test_evaluator = dict(type=QuestionMetric)
optim_wrapper = dict(
    type=OptimWrapper,
    constructor=ByName,
    optimizer=dict(type=AdamW, lr=5e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    paramwise_cfg=dict(
        no_decay=no_decay, faster=[r"answer_layers\.layers\.\d+\.cross_attn\.(key|value)\."], lr_mult=2.0
    ),
)
param_scheduler = [dict(type=LinearUpAndDown, by_epoch=False, warm_up=0.1)]
train_cfg = dict(type=PassLoop, passes=10, val_passes=10)  # their steps are counted when the lists are read
