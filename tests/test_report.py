import json
import re
import time
from itertools import pairwise
from math import log
from urllib.parse import urlsplit

import numpy as np
import pytest
from chromium import chromium
from hypothesis import given
from hypothesis import strategies as st

from showtell.core.errors import UserError
from showtell.evaluation.confidence_fit import Sureness
from showtell.evaluation.report import Nearest, ReportData, ReportImage, TrainingCaptions, write_report
from showtell.evaluation.report.charts import Point, line_chart, ticks
from showtell.evaluation.report.evaluated import read_curves
from showtell.evaluation.report.report_writer import heat_bytes
from showtell.generation.captioner import Caption

KINDS = ["dog", "boat", "red kite", "cat"]


def caption_of(text, logprob=-3.0, side=4, attends=True):
    words = text.split()
    attention = np.zeros((len(words), side * side), np.float32)
    for place in range(len(words)):
        attention[place, place % (side * side)] = 1  # each word looks at a cell of its own
    return Caption(text, words, logprob, logprob, True, attention if attends else None)


def image_of(number, cider):
    kind = KINDS[number % 4]
    return ReportImage(
        image_id=f"id{number}",
        captions=[caption_of(f"a {kind} number {number}"), caption_of(f"the {kind}", -4.5)],
        references=[f"A {kind} somewhere.", f"a sleepy {kind} of rank {number}"],
        cider=cider,
        nearest=Nearest(f"a {kind} in training", 0.5),
        marks=["unseen"] if number % 3 == 0 else [],
    )


def pixels_of(number):
    return np.full((3, 48, 48), 40 + number % 200, np.uint8)


def report_of(count, **changes):
    """Image i has CIDEr-D (7 i mod count) / count, all different when 7 does not divide `count`."""
    images = [image_of(i, (7 * i % count) / count) for i in range(count)]
    content = {
        "title": "drawn",
        "facts": [f"{count} test images", "beam 2"],
        "metrics": {"cider": 0.8, "bleu4": 0.25, "meteor": None, "chair_i": 0.04, "wings": 0.5},
        "intervals": {"cider_low": 0.71, "cider_high": 0.88},
        "others": {"Unseen pairs": {"cider": 0.6, "bleu4": None}},
        "behaviour": {"captions": count, "copied": 0.125, "mean_length": 4.25},
        "curves": {"train": [{"epoch": e, "loss": 3 / e, "cider": e / 10} for e in (1, 2, 3)], "finetune": []},
        "sweep": [
            {
                "method": f"beam {b}",
                "beam": b,
                "length_penalty": 0.0,
                "cider": 0.7 + b / 100,
                "bleu4": 0.2,
                "milliseconds": 5.0 * b,
                "best": b == 3,
            }
            for b in (1, 3)
        ],
        "params": {"beam": 2, "search": {"max_length": 20}},
        "images": images,
        "pixels": pixels_of,
        "notes": {"meteor": "not computed: needs Java"},
    }
    return ReportData(**{**content, **changes})


def page_of(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def test_the_page_says_the_scores_with_their_intervals(tmp_path):
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
def test_same_data_same_bytes_instead_of_what_was_there(tmp_path, monkeypatch, limit):
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
    """Captions stated right in turn by 25% and 75%; of the first a quarter is, of the others 75% less `error`."""
    stated = np.tile([0.25, 0.75], count // 2)
    turn = np.arange(count) // 2 / (count // 2)
    return Sureness(stated, turn < np.where(stated < 0.5, 0.25, 0.75 - error))


def test_the_page_tells_how_sure_captions_are_and_what_abstaining_gains(tmp_path):
    sure = {"good": sureness_of(400, 0.5), "true": sureness_of(40, 0.0)}
    write_report(tmp_path / "report", report_of(3, sure=sure))
    page = page_of(tmp_path / "report")
    confidence = page[page.index('<section id="confidence"') : page.index('<section id="curves"')]
    text = re.sub(r"<[^>]+>", " ", confidence)
    assert "calibration error 25.0" in text and "calibration error 0.0" in text
    for cell in ("70 to 80%", "200", "75.0", "25.0"):
        assert re.search(rf">{cell}<", confidence), cell
    assert re.search(r"not as good, captions given, % 50: risk, % 75", confidence)  # the surest half
    assert '<a href="#confidence">Confidence</a>' in page
    write_report(tmp_path / "none", report_of(3))
    assert 'id="confidence"' not in page_of(tmp_path / "none") and "#slices" not in page_of(tmp_path / "none")


def test_the_page_has_a_row_for_each_slice(tmp_path):
    rows = [
        {"by": "number of objects", "part": part, "images": 7, "cider": c, "cider_low": c - 0.1, "cider_high": c + 0.1}
        for part, c in (("1", 1.2), ("<2>", 0.8))
    ]
    write_report(tmp_path / "report", report_of(3, slices=rows))
    page = page_of(tmp_path / "report")
    assert page.count("By number of objects") == 1 and "&lt;2&gt;" in page
    assert "110.0 to 130.0" in page and "70.0 to 90.0" in page


def test_nothing_is_asked_of_any_server(tmp_path):
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


def test_a_model_that_does_not_attend_an_empty_caption_and_nothing_nearest(tmp_path):
    images = [
        ReportImage("a", [caption_of("a dog", attends=False)], ["a dog"], 0.1),
        ReportImage("b", [caption_of("")], ["a dog"], 0.2),
    ]
    page = page_after(tmp_path, report_of(2, images=images, sweep=[], curves={}, behaviour={}, intervals={}, others={}))
    details = json.loads(re.search(r'id="part-0">(.*?)</script>', page)[1])
    assert [details[i]["attention"] for i in "01"] == [None, None] and details["0"]["nearest"] is None


def test_attention_is_bytes_up_to_the_best_cell_and_even_attention_is_dull():
    import base64

    heat = np.frombuffer(base64.b64decode(heat_bytes(np.array([[0, 0.2, 0.8, 0], [0.25] * 4]))), np.uint8)
    assert heat.tolist()[:2] == [0, 51] and heat[2] in (204, 255) and set(heat[4:]) == {64}


# ---- charts


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8))
def test_ticks_are_round_and_hold_every_value(values):
    found = ticks(values, 5)
    slack = 1e-6 * max(1, *(abs(v) for v in values))
    assert found[0] <= min(values) + slack and found[-1] >= max(values) - slack
    assert 2 <= len(found) <= 9 and found == sorted(found)


def test_epochs_are_whole_numbers():
    assert ticks([1, 2, 3], 6, whole=True) == [1, 2, 3]


def test_a_chart_marks_the_best_and_names_its_lines():
    chart = line_chart("Scores", {"penalty <0>": [Point(1, 2, "3"), Point(2, 5, "5", best=True)]}, "ms", "CIDEr-D")
    assert chart.count('class="ring"') == 1 and "penalty &lt;0&gt;" in chart and chart.count("<circle") == 3
    assert line_chart("Nothing", {"a": []}, "x", "y") == ""


# ---- nearest training caption


def slow_nearest(training, words):
    """The definition, read off the page."""

    def grams(text):
        words = text.split()
        return {*words, *(f"{a} {b}" for a, b in pairwise(words))}

    texts = list(dict.fromkeys(" ".join(caption) for caption in training))

    def weight(found):
        return sum(log(1 + len(texts) / (1 + sum(g in grams(t) for t in texts))) for g in found)

    own, best = grams(" ".join(words)), (0.0, None)
    for text in texts:
        similarity = weight(own & grams(text)) / weight(own | grams(text)) if own | grams(text) else 0.0
        if similarity > best[0] + 1e-9:
            best = (similarity, text)
    return best


CAPTION = st.lists(st.sampled_from(["a", "red", "dog", "on", "kite", "sea"]), min_size=1, max_size=6)


@given(st.lists(CAPTION, min_size=1, max_size=12), CAPTION)
def test_nearest_is_what_its_definition_says(training, words):
    similarity, text = slow_nearest(training, words)
    found = TrainingCaptions(training).nearest(words)
    if text is None:
        assert found is None
    else:
        assert found.caption == text and found.similarity == pytest.approx(similarity)


def test_a_copied_caption_is_its_own_nearest():
    training = TrainingCaptions([["a", "dog"], ["a", "red", "kite"], ["a", "dog", "and", "a", "kite"]])
    assert training.nearest(["a", "red", "kite"]) == ("a red kite", 1.0)
    assert training.nearest(["zebra"]) is None and training.nearest([]) is None


# ---- in a browser


class Page:
    """A report, as somebody with a mouse and a keyboard sees it."""

    def __init__(self, browser, folder):
        self.browser = browser
        browser.get((folder / "index.html").as_uri())
        self.wait("return document.querySelectorAll('[data-filled]').length > 0")

    def js(self, code, *arguments):
        return self.browser.execute_script(code, *arguments)

    def wait(self, code, *arguments, seconds=10):
        end = time.monotonic() + seconds
        while not (value := self.js(code, *arguments)):
            assert time.monotonic() < end, code
            time.sleep(0.02)
        return value

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def shown(self):
        """Numbers of the images of the cards, in order."""
        return self.js("return [...document.querySelectorAll('.card')].map(card => Number(card.dataset.image))")

    def order_by(self, value):
        self.js("document.querySelector(`[name=order][value=${arguments[0]}]`).click()", value)

    def search(self, text, count):
        self.js("document.querySelector('#query').value = ''")
        self.find("#query").send_keys(text)
        self.wait("return document.querySelector('#count').textContent.startsWith(arguments[0])", f"{count} of")

    def brightest(self, selector):
        """Where the attention painted on a canvas is greatest, as fractions of its width and height."""
        return self.js(
            """const canvas = document.querySelector(arguments[0]), side = canvas.width;
            const data = canvas.getContext('2d').getImageData(0, 0, side, side).data;
            let best = 0;
            for (let i = 0; i < side * side; i++) if (data[4 * i] > data[4 * best]) best = i;
            return [(best % side) / side, Math.floor(best / side) / side];""",
            selector,
        )

    def requests(self):
        """Everything that the page asked for, by scheme."""
        events = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).scheme for url in urls}

    def complaints(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]


@pytest.fixture(scope="module")
def desktop(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    write_report(folder / "report", report_of(12))
    return folder / "report"


def test_sort_and_search_of_a_dozen_images(desktop, small):
    page = Page(desktop, small)
    ciders = [7 * i % 12 for i in range(12)]
    by_score = sorted(range(12), key=lambda i: -ciders[i])
    assert page.shown() == by_score
    page.order_by("worst")
    assert page.shown() == by_score[::-1]
    page.order_by("file")
    assert page.shown() == list(range(12))
    page.order_by("random")
    first = page.shown()
    page.order_by("random")
    assert sorted(first) == list(range(12)) and page.shown() != first
    page.order_by("file")
    page.search("kite", 3)
    assert page.shown() == [2, 6, 10]
    page.search("RED ki", 3)
    page.search("sleepy", "None")
    page.js("document.querySelector('#everywhere').click()")
    page.wait("return document.querySelectorAll('.card').length === 12")
    page.js("document.querySelector('#marks input').click()")
    page.wait("return document.querySelectorAll('.card').length === 4")
    assert page.shown() == [0, 3, 6, 9]
    assert page.complaints() == [] and not page.requests() & {"http", "https", "ws", "wss"}


def test_pointing_at_a_word_lights_where_the_model_looked(desktop, small):
    from selenium.webdriver import ActionChains

    page = Page(desktop, small)
    page.order_by("file")
    page.wait("return document.querySelector('.card').dataset.filled")
    word = page.find(".card .caption > span:nth-of-type(3)")  # "number": the third cell of four
    ActionChains(desktop).scroll_to_element(word).move_to_element(word).perform()
    page.wait("return document.querySelector('.card .picture.lit')")
    x, y = page.brightest(".card canvas")
    assert 0.5 <= x < 0.75 and y < 0.25
    ActionChains(desktop).move_to_element(page.find("h1")).perform()
    page.wait("return !document.querySelector('.card .picture.lit')")


def test_one_image_by_keyboard_alone(desktop, small):
    from selenium.webdriver import ActionChains, Keys

    page = Page(desktop, small)
    keys = lambda *sent: ActionChains(desktop).send_keys(*sent).perform()  # noqa: E731
    keys("/")
    assert page.js("return document.activeElement.id") == "query"
    page.order_by("file")
    page.js("document.querySelector('.card .picture').focus()")
    keys(Keys.ENTER)
    page.wait("return document.querySelector('#viewer').open")
    text = page.find("#viewer").text
    for part in (
        "a dog number 0",
        "A dog somewhere.",
        "the dog",
        "−4.50",
        "a dog in training",
        "50% alike",
        "−3.00",
        "id0",
    ):
        assert part in text, part
    keys(Keys.ARROW_RIGHT)
    page.wait("return document.querySelector('#said').textContent === 'a boat number 1'")
    page.js("document.querySelector('#words button').focus()")
    keys(Keys.ARROW_RIGHT)
    assert page.find("#word").text == "boat"
    x, y = page.brightest(".stage canvas")
    assert 0.25 <= x < 0.5 and y < 0.25
    keys(Keys.ESCAPE)
    # The dialog hands the focus back to where it came from, and the page moves it to the last image seen once it hears
    # that the dialog is closed, which is a little later.
    page.wait("return !document.querySelector('#viewer').open")
    page.wait("return document.activeElement.closest('.card')?.dataset.image === '1'")


def test_five_thousand_images_stay_light(desktop, tmp_path, monkeypatch):
    # These pictures are plain, and so too small.
    monkeypatch.setattr("showtell.evaluation.report.report_writer.ALL_IN_ONE", 1_000_000)
    write_report(tmp_path / "report", report_of(5000))
    assert (tmp_path / "report/index.html").stat().st_size < 700_000
    page = Page(desktop, tmp_path / "report")
    assert len(page.shown()) == 24
    assert page.js("return document.querySelectorAll('head > script').length") <= 3  # only what is in sight is read
    assert page.js("return document.querySelectorAll('*').length") < 1500
    page.js("document.querySelector('#more').click()")
    assert len(page.shown()) == 48
    page.search("boat 4321", 1)
    assert page.shown() == [4321]
    page.wait("return document.querySelector('.card img').naturalWidth === 48")
    assert page.complaints() == [] and not page.requests() & {"http", "https", "ws", "wss"}


def test_phone_width_and_touch(tmp_path, small):
    with chromium(tmp_path / "profile", 360, 740, touch=True) as browser:
        page = Page(browser, small)
        assert page.js("return document.documentElement.scrollWidth") <= 360
        page.js("document.querySelector('.card .caption').scrollIntoView({block: 'center', behavior: 'instant'})")
        place = page.js(
            "const r = document.querySelector('.card .caption > span:nth-of-type(2)').getBoundingClientRect();"
            "return {x: r.x + r.width / 2, y: r.y + r.height / 2}"
        )
        for kind, points in (("touchStart", [place]), ("touchEnd", [])):
            browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait("return document.querySelector('.card .picture.lit')")
        page.js("document.querySelector('.card .picture').click()")
        page.wait("return document.querySelector('#viewer').open")
        assert page.js("return document.querySelector('#viewer').scrollWidth") <= 360


# ---- of a real evaluation


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
