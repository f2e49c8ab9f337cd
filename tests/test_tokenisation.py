"""Scores of captions in scripts without spaces: the choice of tokenisation."""

import argparse
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from showtell.commands import score
from showtell.metrics.protocol import evaluate
from showtell.metrics.tokenisation import CHARACTERS, PTB, tokenisation_for

# Near-correct captions of two images each
LANGUAGES = {
    "Chinese": (
        {1: ["一条狗在雪地里奔跑"], 2: ["桌上有三个苹果"]},
        {1: "一条狗在雪地里", 2: "桌上三个苹果"},
    ),
    "Japanese": (
        {1: ["犬が雪の中を走る"], 2: ["ﾃｰﾌﾞﾙにりんごが三つある"]},
        {1: "犬が雪を走る", 2: "ﾃｰﾌﾞﾙにりんごがある"},
    ),
    "Thai": (
        {1: ["เด็กกำลังวิ่งบนหิมะ"], 2: ["แอปเปิ้ลสามลูกบนโต๊ะ"]},
        {1: "เด็กวิ่งบนหิมะ", 2: "แอปเปิ้ลบนโต๊ะ"},
    ),
    "Lao": (
        {1: ["ໝາແລ່ນຢູ່ເທິງຫິມະ"], 2: ["ໝາກໂປມສາມໜ່ວຍຢູ່ເທິງໂຕະ"]},
        {1: "ໝາແລ່ນເທິງຫິມະ", 2: "ໝາກໂປມຢູ່ເທິງໂຕະ"},
    ),
    "Khmer": (
        {1: ["ឆ្កែកំពុងរត់លើព្រិល"], 2: ["ផ្លែប៉ោមបីនៅលើតុ"]},
        {1: "ឆ្កែរត់លើព្រិល", 2: "ផ្លែប៉ោមនៅលើតុ"},
    ),
    "Burmese": (
        {1: ["ခွေးတစ်ကောင်နှင်းထဲမှာပြေးနေသည်"], 2: ["စားပွဲပေါ်မှာပန်းသီးသုံးလုံး"]},
        {1: "ခွေးနှင်းထဲမှာပြေးနေသည်", 2: "စားပွဲပေါ်မှာပန်းသီး"},
    ),
    "Tibetan": (
        {1: ["ཁྱི་གཅིག་ཁ་བའི་ནང་རྒྱུག་"], 2: ["ཅོག་ཙེའི་སྟེང་ཀུ་ཤུ་གསུམ་"]},
        {1: "ཁྱི་ཁ་བའི་ནང་རྒྱུག་", 2: "ཅོག་ཙེའི་སྟེང་ཀུ་ཤུ་"},
    ),
}
ENGLISH = ["a dog's running", "two cats can't sleep", "it is a 2 kg cake."]


@pytest.mark.parametrize("language", LANGUAGES)
def test_near_correct_captions_score_in_scripts_without_spaces(language):
    references, hypotheses = LANGUAGES[language]
    scores = evaluate(references, hypotheses, meteor=False)
    assert scores.tokenisation is CHARACTERS
    assert scores.corpus["bleu4"] > 0.2 and scores.corpus["rouge_l"] > 0.5 and scores.corpus["cider"] > 2
    turned = evaluate(references, {1: hypotheses[2], 2: hypotheses[1]}, meteor=False).corpus
    assert turned["cider"] < scores.corpus["cider"] / 4


@pytest.mark.parametrize(
    "captions",
    [
        ENGLISH,
        ["كلب بني يجري على العشب", "قطتان نائمتان"],
        ["собака бежит по снегу"],
        ["कुत्ता घास पर दौड़ता है"],
        ["개가 눈밭을 달린다"],
        ["con chó chạy trên tuyết"],
        ["a plate of 烤鸭 on a table", "a sign that reads ラーメン over the door"],
        [*ENGLISH * 4, "一只狗"],
        [],
    ],
)
def test_where_words_have_spaces_the_protocol_stays(captions):
    assert tokenisation_for(captions) is PTB


def test_one_language_without_spaces_is_enough():
    captions = ["a dog runs", "一只狗在跑"]
    assert tokenisation_for(captions) is CHARACTERS
    assert list(CHARACTERS.tokenised(captions)) == ["a dog runs", "一 只 狗 在 跑"]


def test_hypotheses_do_not_choose_the_tokenisation():
    references = {1: ["a dog's bowl"], 2: ["two cats"]}
    assert evaluate(references, {1: "一只狗", 2: "两只猫"}, meteor=False).tokenisation is PTB


@given(st.lists(st.text(alphabet="ab猫 ก.", max_size=8), max_size=6))
def test_the_order_of_captions_does_not_choose_the_tokenisation(captions):
    assert tokenisation_for(captions) is tokenisation_for(captions[::-1])


def test_score_names_the_tokenisation(tmp_path, capsys):
    references, hypotheses = LANGUAGES["Chinese"]
    annotations = [{"image_id": i, "caption": text} for i, texts in references.items() for text in texts]
    (tmp_path / "r.json").write_text(json.dumps({"images": [{"id": 1}, {"id": 2}], "annotations": annotations}))
    (tmp_path / "h.json").write_text(json.dumps([{"image_id": i, "caption": t} for i, t in hypotheses.items()]))
    parser = argparse.ArgumentParser()
    score.add_arguments(parser)
    files = [str(tmp_path / "h.json"), str(tmp_path / "r.json"), "--no-meteor"]
    assert score.run(parser.parse_args(files)) == 0
    assert "scored on characters" in capsys.readouterr().out
    assert score.run(parser.parse_args([*files, "--json"])) == 0
    assert json.loads(capsys.readouterr().out)["tokenisation"] == "characters"
