"""The report in Chromium: sorting, search, attention by mouse, keyboard and touch."""

import json
import time
from urllib.parse import urlsplit

import pytest
from chromium import chromium
from report_content import report_of

from showtell.evaluation.report import write_report


class Page:
    """A report in the browser."""

    def __init__(self, browser, folder):
        self.browser = browser
        browser.get((folder / "index.html").as_uri())
        self.wait("return document.querySelectorAll('[data-filled]').length > 0")

    def js(self, code, *arguments):
        return self.browser.execute_script(code, *arguments)

    def wait(self, code, *arguments, seconds=300):
        end = time.monotonic() + seconds
        while not (value := self.js(code, *arguments)):
            assert time.monotonic() < end, code
            time.sleep(0.02)
        return value

    def find(self, selector):
        return self.browser.find_element("css selector", selector)

    def shown(self):
        """Image numbers of the cards, in order."""
        return self.js("return [...document.querySelectorAll('.card')].map(card => Number(card.dataset.image))")

    def order_by(self, value):
        self.js("document.querySelector(`[name=order][value=${arguments[0]}]`).click()", value)

    def search(self, text, count):
        self.js("document.querySelector('#query').value = ''")
        self.find("#query").send_keys(text)
        self.wait("return document.querySelector('#count').textContent.startsWith(arguments[0])", f"{count} of")

    def brightest(self, selector):
        """The brightest point of a canvas, as fractions of its width and height."""
        return self.js(
            """const canvas = document.querySelector(arguments[0]), side = canvas.width;
            const data = canvas.getContext('2d').getImageData(0, 0, side, side).data;
            let best = 0;
            for (let i = 0; i < side * side; i++) if (data[4 * i] > data[4 * best]) best = i;
            return [(best % side) / side, Math.floor(best / side) / side];""",
            selector,
        )

    def requests(self):
        """Schemes of all requests of the page."""
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


def test_hovering_over_a_word_shows_its_attention(desktop, small):
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


def test_the_viewer_by_keyboard(desktop, small):
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
    # The dialog returns the focus to its opener; the later `close` event moves it to the last image shown.
    page.wait("return !document.querySelector('#viewer').open")
    page.wait("return document.activeElement.closest('.card')?.dataset.image === '1'")


def test_five_thousand_images_are_loaded_in_parts(desktop, tmp_path, monkeypatch):
    # The files of these plain pictures are too small for parts.
    monkeypatch.setattr("showtell.evaluation.report.report_writer.ALL_IN_ONE", 1_000_000)
    write_report(tmp_path / "report", report_of(5000))
    assert (tmp_path / "report/index.html").stat().st_size < 700_000
    page = Page(desktop, tmp_path / "report")
    assert len(page.shown()) == 24
    assert page.js("return document.querySelectorAll('head > script').length") <= 3  # only visible parts are loaded
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
