"""The page of `dvc plots show` draws every plot without requests."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from chromium import chromium
from conftest import ROOT

# Written here: starting `dvc` to write it takes seconds.
NO_SCM = "[core]\n    no_scm = true\n"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """DVC's page of the plots in dvc.yaml, with the repository's settings."""
    folder = tmp_path_factory.mktemp("plots")
    plots = [plot for plot in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] if isinstance(plot, dict)]
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"plots": plots}))
    shutil.copytree(ROOT / "metrics", folder / "metrics", ignore=shutil.ignore_patterns("report"))
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    (folder / ".dvc/config.local").write_text(NO_SCM)
    shutil.copytree(ROOT / ".dvc/plots", folder / ".dvc/plots", dirs_exist_ok=True)
    subprocess.run(["dvc", "plots", "show"], cwd=folder, check=True, capture_output=True)
    return folder / "dvc_plots/index.html"


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    """Chromium with the page."""
    with chromium(tmp_path_factory.mktemp("chromium") / "profile") as opened:
        opened.set_script_timeout(120)
        opened.get(page.as_uri())
        yield opened


def test_the_page_loads_no_remote_files(page):
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)\s*=\s*[\"']?\w+:", page.read_text())


def test_only_plots_with_axes_are_drawn_and_close_up():
    """Of a file among a stage's `plots` DVC also draws the last column against the row, and its own templates for
    points begin at 0, where scores differ by less than a point."""
    described = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert not [name for name, stage in described["stages"].items() if "plots" in stage]
    for plot in (plot for plot in described["plots"] if isinstance(plot, dict)):
        ((_, shown),) = plot.items()
        template = json.loads((ROOT / f".dvc/plots/{shown['template']}.json").read_text())
        assert {"x", "y", "title"} <= shown.keys() and not template["encoding"]["y"]["scale"]["zero"]


def test_every_plot_is_drawn_without_requests(page, browser):
    plots = yaml.safe_load((page.parent.parent / "dvc.yaml").read_text())["plots"]
    drawn = browser.execute_async_script(
        "const count = arguments[0], done = arguments[1], look = () => {"
        " const marks = [...document.querySelectorAll('.marks')].filter(m => m.getBoundingClientRect().width > 99);"
        " if (marks.length >= count) done(marks.length); else setTimeout(look, 50); }; look();",
        len(plots),
    )
    assert drawn == len(plots)
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    told = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in told if event["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked and not [url for url in asked if url.startswith(("http", "ws"))]


def test_ticks_are_epochs_and_each_stage_has_its_own_shape(page, browser):
    """By itself Vega marks half epochs, and a line of a single epoch has no dashes to tell whose it is."""
    specs = [json.loads(spec) for spec in re.findall(r"var spec = (.*);$", page.read_text(), re.MULTILINE)]
    epochs = [spec for spec in specs if spec["encoding"]["x"]["field"] == "epoch"]
    charts = browser.execute_async_script(
        "const [specs, done] = arguments, texts = (all) => [...all].map((one) => one.textContent);"
        "Promise.all(specs.map(async (spec) => {"
        " const { view } = await vegaEmbed(document.createElement('div'), spec, { renderer: 'none' });"
        " const svg = new DOMParser().parseFromString(await view.toSVG(), 'image/svg+xml');"
        " const shapes = [...svg.querySelectorAll('.mark-symbol.role-mark path')].map((p) => p.getAttribute('d'));"
        " return [texts(svg.querySelector('.role-axis-label').querySelectorAll('text')), new Set(shapes).size];"
        "})).then(done);",
        epochs,
    )
    assert [shapes for _, shapes in charts] == [2, 3, 3, 1]  # stages in each chart
    assert all(ticks and all(tick.isdigit() for tick in ticks) for ticks, _ in charts), charts
