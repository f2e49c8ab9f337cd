"""The report's page: what it shows, its files, and that captions cannot run code in it."""

import json
import re

import numpy as np
import pytest
from report_content import caption_of, page_of, report_of

from showtell.core.errors import UserError
from showtell.evaluation.confidence_fit import Sureness
from showtell.evaluation.report import Nearest, ReportImage, write_report
from showtell.evaluation.report.evaluated import read_curves
from showtell.evaluation.report.report_writer import heat_bytes


def test_the_page_shows_the_scores_with_their_intervals(tmp_path):
    write_report(tmp_path / "report", report_of(12))
    text = re.sub(r"<[^>]+>", " ", page_of(tmp_path / "report").split("<dialog")[0])
    for shown in ("80.0", "71.0 to 88.0", "60.0", "not computed: needs Java", "wings", "12.5%", "max_length: 20"):
        assert shown in text, shown


def test_few_images_are_one_file_and_nothing_else(tmp_path):
    write_report(tmp_path / "report", report_of(12))
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_many_images_are_parts_beside_a_small_page(tmp_path, monkeypatch):
    monkeypatch.setattr("showtell.evaluation.report.report_writer.ALL_IN_ONE", 1000)
    write_report(tmp_path / "report", report_of(40))
    assert len(list((tmp_path / "report/parts").iterdir())) == 1 + 3
    assert (tmp_path / "report/index.html").stat().st_size < 60_000


@pytest.mark.parametrize("limit", [0, 10**9])
def test_the_same_data_gives_the_same_bytes_and_replaces_old_files(tmp_path, monkeypatch, limit):
    monkeypatch.setattr("showtell.evaluation.report.report_writer.ALL_IN_ONE", limit)
    write_report(tmp_path / "a", report_of(40))
    write_report(tmp_path / "b", report_of(50))
    write_report(tmp_path / "b", report_of(40))
    a, b = (
        {p.relative_to(f): p.read_bytes() for p in f.rglob("*") if p.is_file()}
        for f in (tmp_path / "a", tmp_path / "b")
    )
    assert a == b


def sureness_of(count, error):
    """Alternating confidences of 25% and 75%, of which 25% and 75% minus `error` are right."""
    stated = np.tile([0.25, 0.75], count // 2)
    turn = np.arange(count) // 2 / (count // 2)
    return Sureness(stated, turn < np.where(stated < 0.5, 0.25, 0.75 - error))


def test_the_page_shows_calibration_and_risk_against_coverage(tmp_path):
    sure = {"good": sureness_of(400, 0.5), "true": sureness_of(40, 0.0)}
    write_report(tmp_path / "report", report_of(3, sure=sure))
    page = page_of(tmp_path / "report")
    confidence = page[page.index('<section id="confidence"') : page.index('<section id="curves"')]
    text = re.sub(r"<[^>]+>", " ", confidence)
    assert "calibration error 25.0" in text and "calibration error 0.0" in text
    for cell in ("70 to 80%", "200", "75.0", "25.0"):
        assert re.search(rf">{cell}<", confidence), cell
    assert re.search(r"not as good, captions given, % 50: risk, % 75", confidence)  # the more confident half
    assert '<a href="#confidence">Confidence</a>' in page
    write_report(tmp_path / "none", report_of(3))
    assert 'id="confidence"' not in page_of(tmp_path / "none") and 'href="#slices"' not in page_of(tmp_path / "none")


def test_the_page_has_a_row_for_each_slice(tmp_path):
    rows = [
        {"by": "number of objects", "part": part, "images": 7, "cider": c, "cider_low": c - 0.1, "cider_high": c + 0.1}
        for part, c in (("1", 1.2), ("<2>", 0.8))
    ]
    write_report(tmp_path / "report", report_of(3, slices=rows))
    page = page_of(tmp_path / "report")
    assert page.count("By number of objects") == 1 and "&lt;2&gt;" in page
    assert "110.0 to 130.0" in page and "70.0 to 90.0" in page


def test_the_page_makes_no_requests(tmp_path):
    write_report(tmp_path / "report", report_of(3))
    assert not re.search(r"(src|href)=[\"']?(https?:|//)|url\(|@import|https?://", page_of(tmp_path / "report"))


def test_captions_cannot_break_out_of_the_page(tmp_path):
    evil = "</script><script>alert(1)</script><b>"
    image = ReportImage(
        evil, [caption_of(evil), caption_of(evil)], [evil, "half \ud800 pair"], 0.5, Nearest(evil, 1.0), [evil]
    )
    plain = len(re.findall("<script", page_after(tmp_path / "plain", report_of(2))))
    data = report_of(2, images=[image, image], title=evil, facts=[evil], params={evil: evil}, notes={"meteor": evil})
    page = page_after(tmp_path / "evil", data)
    assert len(re.findall("<script", page)) == plain and "alert(1)</script>" not in page


def page_after(folder, data):
    write_report(folder, data)
    return page_of(folder)


def test_captions_without_attention_words_or_nearest_caption(tmp_path):
    images = [
        ReportImage("a", [caption_of("a dog", attends=False)], ["a dog"], 0.1),
        ReportImage("b", [caption_of("")], ["a dog"], 0.2),
    ]
    page = page_after(tmp_path, report_of(2, images=images, sweep=[], curves={}, behaviour={}, intervals={}, others={}))
    details = json.loads(re.search(r'id="part-0">(.*?)</script>', page)[1])
    assert [details[i]["attention"] for i in "01"] == [None, None] and details["0"]["nearest"] is None


def test_settings_that_change_more_than_beam_and_penalty_are_a_line_of_their_own(tmp_path):
    plain, wider = report_of(2).sweep
    page = page_after(tmp_path, report_of(2, sweep=[plain, wider, {**plain, "method": "beam 1, consensus 2.0"}]))
    chart = re.search(r"<svg[^>]*on val against milliseconds.*?</svg>", page, re.DOTALL)[0]
    assert re.findall(r'class="name"[^>]*>([^<]*)<', chart) == ["penalty 0", "beam 1, consensus 2.0"]


def test_attention_is_scaled_to_bytes():
    import base64

    heat = np.frombuffer(base64.b64decode(heat_bytes(np.array([[0, 0.2, 0.8, 0], [0.25] * 4]))), np.uint8)
    assert heat.tolist()[:2] == [0, 51] and heat[2] in (204, 255) and set(heat[4:]) == {64}


def test_the_loss_of_rewards_is_not_drawn_with_losses_in_nats(tmp_path):
    rows = [{"epoch": 1, "loss": -0.5, "reward": 2.2}, {"epoch": 2, "loss": -0.1, "reward": 2.6}]
    curves = {"train": [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.0}], "reinforce": rows}
    page = page_after(tmp_path, report_of(2, curves=curves))
    loss, reward = page.index("Training loss in nats"), page.index("Reward of sampled captions")
    assert "reinforce" not in page[loss:reward] and "reinforce" in page[reward:]


def test_curves_are_read_as_numbers(tmp_path):
    (tmp_path / "train.tsv").write_text("epoch\tloss\tnote\n1\t2.5\t\n2\t1.5\tbest\n")
    assert read_curves(tmp_path / "train.tsv") == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.5}]
    with pytest.raises(UserError, match=r"none\.tsv"):
        read_curves(tmp_path / "none.tsv")


def test_evaluate_writes_the_report_of_every_test_image(pipeline):
    page = page_of(pipeline / "metrics/report")
    index = json.loads(re.search(r'id="index">(.*?)</script>', page)[1])
    written = json.loads((pipeline / "data/hypotheses/test.json").read_text())
    assert index["captions"] == [entry["caption"] for entry in written]
    assert index["ids"] == [str(entry["image_id"]) for entry in written]
    metrics = json.loads((pipeline / "metrics/evaluate.json").read_text())
    assert sum(index["cider"]) / len(written) == pytest.approx(metrics["cider"], abs=1e-3)
