import argparse
import gc
import json
import re
import socket
import sys
import time
import warnings
from contextlib import nullcontext
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest
from chromium import chromium
from PIL import Image
from tiny_model import tiny_captioner

from showtell.commands import demo
from showtell.core.errors import UserError


def write_picture(path, size=(90, 60)):
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_captions_of_a_picture(tmp_path):
    path = write_picture(tmp_path / "a.png")
    html = demo.describe(tiny_captioner(), str(path), 3, {"beam": 3})
    best = tiny_captioner().caption([path], beam=3)[0]
    assert html.count("<figure") == html.count("data:image/jpeg") == len(best.words)
    assert html.count("<tr>") == 1 + 3 and f"<td>{best.text}</td>" in html
    assert demo.describe(tiny_captioner(), None, 3, {"beam": 3}) == ""


def page_values(captioner, **changes):
    return demo.first_values(captioner.search) | {"beam": 2} | changes


def test_the_settings_of_the_page_are_those_of_the_search(tmp_path):
    captioner, path = tiny_captioner(), write_picture(tmp_path / "a.png")
    for method, length, top_k in (("greedy", 3, 0), ("beam", 4, 0), ("diverse_beam", 5, 0), ("sample", 6, 1)):
        values = page_values(captioner, method=method, top_k=top_k, min_length=length, max_length=length)
        n_best, settings = demo.asked(captioner.search, values)
        html = demo.describe(captioner, str(path), n_best, settings)
        text = captioner.caption([path], **settings)[0].text
        assert f"<td>{text}</td>" in html and len(text.split()) in (length - 1, length), method
    assert settings["top_k"] == 1
    assert demo.asked(captioner.search, page_values(captioner, method="sample"))[1]["top_k"] is None
    reversed_lengths = demo.asked(captioner.search, page_values(captioner, method="beam", min_length=9, max_length=3))
    wrong = demo.describe(captioner, str(path), *reversed_lengths)
    assert 'role="alert"' in wrong and "less than min_length" in wrong


def test_groups_of_a_diverse_beam(tmp_path):
    captioner, path = tiny_captioner(), write_picture(tmp_path / "a.png")

    def shown(groups):
        values = page_values(captioner, method="diverse_beam", beam=4, groups=groups, diversity=2.0)
        n_best, settings = demo.asked(captioner.search, values)
        return demo.describe(captioner, str(path), n_best, settings)

    for groups, used in ((0, 4), (1, 1), (2, 2), (4, 4)):
        found = captioner.n_best([path], 4, method="diverse_beam", beam=4, groups=used, diversity=2.0)[0]
        assert all(f"<td>{beam.text}</td>" in shown(groups) for beam in found), groups
    assert shown(1) != shown(2) != shown(4) == shown(0)
    assert 'role="alert"' in shown(3) and "cannot be cut into" in shown(3)


@pytest.mark.parametrize("served", [
    {"method": "sample", "temperature": 1.0, "seed": 3}, {"method": "sample", "top_p": 1.0},
    {"method": "diverse_beam", "beam": 4, "groups": 2, "diversity": 0.0},
])  # fmt: skip
def test_the_page_begins_with_the_settings_of_the_model(served):
    own = tiny_captioner().search.override(**served)
    _, settings = demo.asked(own, demo.first_values(own))
    assert own.override(**settings) == own


def test_settings_beyond_the_usual_are_in_the_range_of_the_page(monkeypatch):
    ranges = SimpleNamespace(Slider=lambda *ends, value, **_: (*ends[:2], value))
    ranges.Dropdown = ranges.Number = lambda *_, **__: None
    ranges.Accordion = lambda *_, **__: nullcontext()
    monkeypatch.setitem(sys.modules, "gradio", ranges)
    for own in (
        {"method": "sample", "temperature": 3.0, "top_k": 200}, {"method": "sample", "temperature": 0.05},
        {"method": "sample", "top_p": 0.01}, {"method": "diverse_beam", "beam": 20, "groups": 20, "diversity": 5.0},
    ):  # fmt: skip
        knobs = demo._knobs(tiny_captioner().search.override(**own))
        for name in own.keys() - {"method"}:
            least, most, value = knobs[name]
            assert least <= value == own[name] <= most


def test_what_is_typed_beside_a_slider_counts_as_its_nearest_value():
    slider = SimpleNamespace(value=1.0, minimum=0.1, maximum=2)
    half_typed = (None, 0, 0.5, 7)
    assert [demo.nearest(slider, typed) for typed in half_typed] == [1.0, 0.1, 0.5, 2]


def test_other_ports_than_there_are_are_one_line(tmp_path):
    for port in (-1, 65536):
        with pytest.raises(UserError, match=f"--port {port}: must be 0 to 65535"):
            demo.run(argparse.Namespace(model=tmp_path, port=port, no_browser=True))


def test_a_cleared_seed_and_a_deleted_upload_are_no_errors(tmp_path):
    captioner = tiny_captioner()
    assert demo.asked(captioner.search, page_values(captioner, method="sample", seed=None))[1]["seed"] == 0
    assert "drop it again" in demo.describe(captioner, str(tmp_path / "gone.png"), 3, {"beam": 3})


def test_other_and_oversized_files_are_refused_by_name(tmp_path, monkeypatch):
    broken = tmp_path / "<b>.jpg"
    broken.write_bytes(b"nothing")
    told = demo.describe(tiny_captioner(), str(broken), 3, {"beam": 3})
    assert told.startswith('<p role="alert">') and "&lt;b&gt;.jpg" in told and str(tmp_path) not in told
    path = write_picture(tmp_path / "a.png")
    monkeypatch.setattr(demo, "LARGEST_PICTURE", 5000)
    assert "megapixels" in demo.describe(tiny_captioner(), str(path), 3, {"beam": 3})
    monkeypatch.setattr(demo, "LARGEST_FILE", 100)
    assert "more than 0 MB" in demo.describe(tiny_captioner(), str(path), 3, {"beam": 3})


def test_without_the_extra_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[demo\]'"):
        demo.run(argparse.Namespace(model=tmp_path, port=0, no_browser=True))


@pytest.fixture(scope="module")
def served():
    demo._without_telemetry()
    pytest.importorskip("gradio", reason="the extra `demo` is not installed")
    page = demo.build_page(tiny_captioner())
    try:
        yield demo.launch(page, 0, browser=False)
    finally:
        with warnings.catch_warnings():  # gradio closes its sockets and event loop only when collected
            warnings.simplefilter("ignore", ResourceWarning)
            page.close()
            del page
            gc.collect()


def wait(browser, code, seconds=300):
    end = time.monotonic() + seconds
    while not (value := browser.execute_script(f"return {code}")):
        assert time.monotonic() < end, code
        time.sleep(0.05)
    return value


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of gradio
def test_a_photo_dropped_on_the_page(served, tmp_path):
    from selenium.webdriver import Keys

    photo = write_picture(tmp_path / "photo.jpg")
    with chromium(tmp_path / "profile") as browser:
        browser.get(served)
        wait(browser, "document.querySelector('#photo input[type=file]')")
        browser.find_element("css selector", "#photo input[type=file]").send_keys(str(photo))
        wait(browser, "document.querySelectorAll('#said figure').length > 0")
        words = browser.execute_script("return [...document.querySelectorAll('.said span')].map(s => s.textContent)")
        tiles = browser.execute_script(
            "return [...document.querySelectorAll('#said figcaption')].map(s => s.firstChild.textContent)"
        )
        assert words == tiles
        chances = "return [...document.querySelectorAll('#said figcaption small')].map(s => s.textContent)"
        assert all(re.fullmatch(r"\d\d?%", chance) for chance in browser.execute_script(chances))
        wait(browser, "[...document.querySelectorAll('#said figure')].every(f => getComputedStyle(f).opacity === '1')")
        rows = "document.querySelectorAll('#said .beams td:first-child').length"
        assert wait(browser, rows) == tiny_captioner().search.beam
        slider = browser.find_element("css selector", "#beam input[type=range]")
        slider.send_keys(Keys.ARROW_LEFT)
        slider.send_keys(Keys.ARROW_LEFT)
        number = browser.find_element("css selector", "#beam input[type=number]")
        number.send_keys(Keys.BACKSPACE, Keys.BACKSPACE, "2", Keys.TAB)
        wait(browser, f"{rows} === 2")
        number.send_keys(Keys.BACKSPACE, "0", Keys.TAB)  # less than the least
        wait(browser, f"{rows} === 1")
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        hosts = {urlsplit(url).hostname for url in urls if urlsplit(url).scheme in ("http", "https", "ws", "wss")}
        assert hosts == {"127.0.0.1"}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of gradio
def test_a_file_that_is_no_picture_is_a_sentence_on_the_page(served, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with chromium(tmp_path / "profile") as browser:
        browser.get(served)
        wait(browser, "document.querySelector('#photo input[type=file]')")
        browser.find_element("css selector", "#photo input[type=file]").send_keys(str(tmp_path / "broken.jpg"))
        alert = wait(browser, "(document.querySelector('#said [role=alert]') || {}).textContent")
        assert "broken.jpg" in alert and "/" not in alert


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_tiles_of_a_tall_picture_fit_on_the_page(served, tmp_path):
    photo = write_picture(tmp_path / "tall.png", size=(20, 400))
    with chromium(tmp_path / "profile") as browser:
        browser.get(served)
        wait(browser, "document.querySelector('#photo input[type=file]')")
        browser.find_element("css selector", "#photo input[type=file]").send_keys(str(photo))
        heights = "[...document.querySelectorAll('#said figure img')].map(i => i.complete ? i.clientHeight : 0)"
        wait(browser, f"({heights}).some(h => h > 0)")
        assert max(browser.execute_script(f"return {heights}")) <= 240


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_demo_listens_on_localhost_only(served):
    port = urlsplit(served).port
    assert re.match(r"http://127\.0\.0\.1:\d+/", served)
    own = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)} - {"127.0.0.1"}
    others = own - {address for address in own if address.startswith("127.")}
    if not others:
        pytest.skip("this machine's name has loopback addresses only")
    for address in others:
        with socket.socket() as other:
            other.settimeout(2)
            assert other.connect_ex((address, port)) != 0


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_files_over_the_limit_are_refused_on_arrival(served):
    import httpx

    answer = httpx.post(f"{served}gradio_api/upload", files={"files": ("a.jpg", b"0" * (demo.LARGEST_FILE + 1))})
    assert answer.status_code == 413
    assert httpx.post(f"{served}gradio_api/upload", files={"files": ("a.jpg", b"0" * 100)}).status_code == 200
