import http.server
import io
import json
import os
import threading

import numpy as np
import pytest
from export_models import captioner
from PIL import Image
from tiny_model import tiny_captioner

from showtell.commands import caption_images, cli, inputs
from showtell.commands.caption_output import lines
from showtell.core.errors import UserError
from showtell.core.progress import log
from showtell.generation.bundle import save_model
from showtell.generation.captioner import Caption


def write_picture(path, seed=0, size=(80, 60)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def width_of(path):
    with Image.open(path) as picture:
        return picture.width


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to work in: no params.yaml, no dataset."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def caption(model, place, capsys):
    """Run `showtell caption`: (status, lines on stdout, stderr)."""

    def run(*arguments):
        try:
            status = cli.dispatch(["caption", *map(str, arguments), "--model", str(model), "--max-length", "6"])
        except UserError as error:
            status = 1
            log(f"error: {error}")
        out, err = capsys.readouterr()
        return status, out.splitlines(), err

    return run


def test_one_line_for_each_image_in_the_order_given(caption, place):
    for number, name in enumerate(("b.jpg", "a.png")):
        write_picture(place / name, number)
    status, lines, err = caption("b.jpg", "a.png", "--beam", 2)
    assert status == 0 and err == ""
    assert [line.split(": ")[0] for line in lines] == ["b.jpg", "a.png"]
    expected = tiny_captioner().caption([place / "b.jpg"], beam=2, max_length=6)[0].text
    assert lines[0] == f"b.jpg: {expected}"


def test_folders_and_globs(caption, place):
    for number, name in enumerate(("in/b.jpg", "in/deep/a.PNG", "in/.hidden.jpg", "x1.png", "x2.png")):
        write_picture(place / name, number)
    (place / "in/notes.txt").write_text("not a picture")
    assert [line.split(": ")[0] for line in caption("in", "x*.png")[1]] == [
        "in/b.jpg",
        "in/deep/a.PNG",
        "x1.png",
        "x2.png",
    ]


def test_stars_cross_folders_but_no_links(caption, place):
    for number, name in enumerate(("in/a.png", "in/[1]/b.png", "in/.cache/c.png", "real/d.png")):
        write_picture(place / name, number)
    for link, target in (("in/loop", place), ("in/[1]/loop", place / "in"), ("in/album", place / "real")):
        (place / link).symlink_to(target)
    for pattern in ("in/**/*.png", "**/in/**/*.png", f"{place}/in/**"):
        _, lines, err = caption(pattern)
        assert "a linked folder" in err, pattern
        names = [os.path.relpath(line.split(": ")[0], place) for line in lines]
        assert names == ["in/[1]/b.png", "in/a.png"], pattern
    assert [line.split(": ")[0] for line in caption("**/*.png")[1]] == ["in/[1]/b.png", "in/a.png", "real/d.png"]
    status, lines, err = caption("in")
    assert status == 0 and len(lines) == 2 and "in: 4 passed over" in err
    assert "3 a linked folder" in err and "1 hidden" in err
    assert len(caption("in/album")[1]) == 1  # named itself


def test_an_empty_name_is_not_this_folder(caption, place):
    write_picture(place / "a.png")
    status, lines, err = caption("")
    assert status == 1 and not lines and "an empty name" in err


def test_many_images_of_one_name_get_numbers(place):
    sources = [inputs.Source(f"{number}/image.jpg") for number in range(3)] + [inputs.Source("image-2.jpg")]
    names = [path.name for path in caption_images._drawings(place / "drawn", sources)]
    assert names == ["image.png", "image-2.png", "image-3.png", "image-2-2.png"]


def test_other_files_in_a_folder_are_counted(caption, place):
    (place / "in").mkdir()
    for number, name in enumerate(("in/a.jfif", "in/b.jpe", "in/c.mpo")):
        write_picture(place / "x.jpg", number).rename(place / name)
    (place / "in/notes.txt").write_text("text")
    (place / "in/.hidden.jpg").write_text("x")
    (place / "in/dead.jpg").symlink_to(place / "nothing.jpg")
    os.mkfifo(place / "in/pipe.jpg")
    status, lines, err = caption("in")
    assert status == 0 and [line.split(": ")[0] for line in lines] == ["in/a.jfif", "in/b.jpe", "in/c.mpo"]
    (line,) = err.splitlines()
    assert line.startswith("in: 4 passed over: ")
    for reason in ("1 hidden", "1 .txt, which is not an image's", "1 a link to nothing", "1 not a file"):
        assert reason in line


def test_pipes_and_devices_are_refused_without_waiting(caption, place):
    os.mkfifo(place / "pipe.jpg")
    status, lines, err = caption("pipe.jpg", "/dev/zero")
    assert status == 1 and not lines
    assert [line.count("it is not a file; send it to standard input") for line in err.splitlines()] == [1, 1]


def test_a_download_has_a_time_limit(caption, place, monkeypatch):
    content = write_picture(place / "a.png").read_bytes()

    class Slow(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    times = iter(range(0, 100_000, 1000))
    monkeypatch.setattr(inputs, "clock", lambda: float(next(times)))
    with http.server.HTTPServer(("127.0.0.1", 0), Slow) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        status, _, err = caption(f"http://127.0.0.1:{server.server_port}/a.png", "--allow-urls")
        server.shutdown()
        thread.join()
    assert status == 1 and "not all of it came in 300 seconds" in err


def test_a_file_whose_name_looks_like_a_glob_is_a_file(caption, place):
    write_picture(place / "a[1].png")
    assert caption("a[1].png")[1][0].startswith("a[1].png: ")


def test_standard_input(caption, place, monkeypatch):
    content = write_picture(place / "a.png").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    status, lines, _ = caption("-")
    assert status == 0 and lines[0].startswith("-: ")


def test_closed_standard_input_is_one_line(caption, place, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    assert caption("-")[0] == 1
    with pytest.raises(UserError, match="standard input is closed"):
        cli.dispatch(["tokenize"])


def test_a_broken_image_is_an_error_and_the_others_are_captioned(caption, place):
    write_picture(place / "good.png")
    (place / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (place / "cut.png").write_bytes((place / "good.png").read_bytes()[:3000])
    (place / "empty").mkdir()
    status, lines, err = caption("broken.jpg", "missing.jpg", "cut.png", "empty", "none*.jpg", "good.png")
    assert status == 1
    assert [line.split(": ")[0] for line in lines] == ["good.png"]
    for line, name in zip(
        err.splitlines(), ("broken.jpg", "missing.jpg", "cut.png", "empty", "none*.jpg"), strict=True
    ):
        assert line.startswith("error: ") and name in line


def test_json_lines(caption, place):
    write_picture(place / "a.png")
    (place / "broken.jpg").write_bytes(b"nothing")
    status, lines, _ = caption("a.png", "broken.jpg", "--json")
    good, bad = map(json.loads, lines)
    assert status == 1 and bad["image"] == "broken.jpg" and "error" in bad
    assert good["image"] == "a.png" and isinstance(good["caption"], str) and good["logprob"] < 0


def test_n_best_are_different_captions_best_first(caption, place):
    write_picture(place / "a.png")
    _, lines, _ = caption("a.png", "--n-best", 3)
    assert len(set(lines)) == 3 and all(line.startswith("a.png: ") for line in lines)
    _, (line,), _ = caption("a.png", "--n-best", 3, "--json")
    captions = json.loads(line)["captions"]
    assert [f"a.png: {c['caption']}  ({c['logprob']:.2f})" for c in captions] == lines
    assert json.loads(line)["caption"] == captions[0]["caption"]


def test_attention_of_one_image(caption, place):
    write_picture(place / "a.png")
    assert caption("a.png", "--attention", "out/where.png")[0] == 0
    assert width_of(place / "out/where.png") > 300


def test_attention_that_a_model_lacks_is_refused_before_any_caption(place, tmp_path, capsys):
    for number, name in enumerate(("a.png", "b.png")):
        write_picture(place / name, number)
    save_model(captioner("init_inject").model, tmp_path / "blind", notes={})
    with pytest.raises(UserError, match="there is nothing to draw"):
        cli.dispatch(["caption", "a.png", "b.png", "--model", str(tmp_path / "blind"), "--attention", "out.png"])
    assert capsys.readouterr().out == ""


def test_an_error_names_the_picture_whatever_it_is_called(caption, place):
    for name in ("a", "picture"):
        (place / name).write_text("not")
    status, lines, err = caption("a", "picture")
    assert status == 1 and lines == []
    assert [line.split(": ")[:2] for line in err.splitlines()] == [["error", "a"], ["error", "picture"]]


def test_a_name_that_cannot_be_looked_up_does_not_stop_the_others(caption, place):
    write_picture(place / "a.png")
    status, lines, err = caption("n" * 300 + ".jpg", "n" * 300 + "*.jpg", "a.png")
    assert status == 1 and [line.split(": ")[0] for line in lines] == ["a.png"]
    assert err.count("error: ") == 2


def test_attention_of_several_images_gets_their_names(caption, place):
    for name in ("a.png", "b.png", "c/a.png"):
        write_picture(place / name)
    caption("a.png", "b.png", "c/a.png", "--attention", "out.png")
    assert sorted(p.name for p in place.glob("out*")) == ["out-a-2.png", "out-a.png", "out-b.png"]
    caption("a.png", "--attention", "folder")
    assert [p.name for p in (place / "folder").iterdir()] == ["a.png"]


def test_photographs_are_not_drawn_over(caption, place):
    for name in ("a.png", "b.png", "folder/a.png"):
        write_picture(place / name)
    before = {path: path.read_bytes() for path in place.rglob("*.png")}
    for arguments in (("a.png", "--attention", "b.png"), ("folder", "--attention", "folder")):
        status, lines, err = caption(*arguments)
        assert status == 1 and lines == [] and "is there already, and is no drawing of showtell's" in err
    assert {path: path.read_bytes() for path in before} == before
    for suffix in ("png", "jpg", "webp"):
        for name in ("a.png", "b.png"):  # a drawing may be drawn over
            assert caption(name, "--attention", f"drawn.{suffix}")[0] == 0


def test_file_names_are_not_read_as_urls(caption, place):
    names = ("img #1.png", "img #2.png", "what? 3.png")
    for name in names:
        write_picture(place / name)
    caption(*names, "--attention", "folder")
    assert sorted(p.name for p in (place / "folder").iterdir()) == sorted(names)
    assert [inputs.Source(url).stem for url in ("http://a.org/b/c.jpg?d=e.png#f", "http://a.org")] == ["c", "image"]


def test_a_number_of_captions_that_is_not_whole_is_refused(place):
    write_picture(place / "a.png")
    with pytest.raises(UserError, match=r"n_best = 2\.0: must be a whole number"):
        tiny_captioner().n_best([place / "a.png"], 2.0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--beam", 0], "beam = 0: input should be greater than or equal to 1"),
        (["--n-best", 6], "n_best = 6: must be 1 to the width of the beam, 5"),
        (["--n-best", 0], "n_best = 0: must be 1 to the width of the beam, 5"),
        (["--patience", 1.5, "--n-best", 9], "n_best = 9: must be 1 to beam x patience, 8"),
        (["--length-penalty", -1], "length_penalty = -1.0"),
        (["--length-penalty", "nan"], "length_penalty = nan"),
        (["--temperature", 0.5], "temperature = 0.5: it does nothing with search.method beam"),
        (["--method", "telepathy"], "method = 'telepathy'"),
        (["--method", "sample", "--beam", 3], "beam = 3: it does nothing with search.method sample"),
        (["--method", "diverse_beam", "--beam", 6, "--groups", 4], "beam = 6: cannot be cut"),
        (["--consensus", 2], "consensus = 2: this model remembers no training images"),
        (["--method", "greedy", "--n-best", 2], "n_best = 2: greedy gives one caption of an image"),
        (["--min-length", 9], "max_length = 6: less than min_length, 9"),
        (["--attention", "out.txt"], "--attention out.txt"),
    ],
)
def test_wrong_options_are_refused_before_any_work(caption, place, arguments, says):
    status, lines, err = caption("a.png", *arguments)
    assert status == 1 and lines == [] and says in err and err.count("\n") == 1


def test_no_model(place, capsys):
    write_picture(place / "a.png")
    with pytest.raises(UserError, match="nowhere holds no model"):
        cli.dispatch(["caption", "a.png", "--model", "nowhere"])


class Pictures(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/a.png" else 404)
        self.end_headers()
        if self.path == "/a.png":
            self.wfile.write(self.server.content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(place):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        server.content = write_picture(place / "a.png").read_bytes()
        server.asked = 0
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_urls_only_when_asked_for(caption, server):
    status, lines, err = caption(f"{server}/a.png")
    assert status == 1 and lines == [] and "--allow-urls" in err
    others = f"{server}/b.png", "file:///etc/passwd", "http://[::1"
    status, lines, err = caption(f"{server}/a.png", *others, "--allow-urls")
    assert status == 1 and len(lines) == 1 and lines[0].startswith(f"{server}/a.png: ")
    assert "404" in err and "only http and https" in err and "http://[::1: cannot be fetched" in err


def test_an_endless_stream_is_stopped(caption, server, monkeypatch):
    monkeypatch.setattr("showtell.commands.inputs.LARGEST_STREAM", 100)
    assert "more than" in caption(f"{server}/a.png", "--allow-urls")[2]


def test_file_names_that_are_not_utf8(caption, place):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_picture(place / "a.png").rename(place / name)
    status, lines, _ = caption(".")
    assert status == 0 and lines[0].startswith("caf\ufffd.png: ")


def test_attention_of_a_model_with_crop_is_drawn_on_the_crop(place, tmp_path_factory):
    folder = tmp_path_factory.mktemp("crop")
    save_model(tiny_captioner(fit="crop").model, folder, notes={})
    write_picture(place / "wide.png", size=(400, 100))
    cli.dispatch(["caption", "wide.png", "--model", str(folder), "--attention", "out.png", "--max-length", "4"])
    assert width_of(place / "out.png") < 1000  # a square and its tiles, not a strip


def test_control_characters_in_words_and_names_are_not_printed():
    word = "\x1b[2J\x07dog\u202e\n\x9b"
    said = Caption(word, [word], -1.0, -1.0, True, None)
    (line,) = lines("a\x1b[1m.png", [said], as_json=False)
    assert line.isprintable() and "dog" in line and line.startswith("a")
    (line,) = lines("a\x1b[1m.png", [said], as_json=True)
    assert line.isprintable() and json.loads(line)["caption"] == word and json.loads(line)["image"] == "a\x1b[1m.png"
    joined = Caption("می\u200cرود", ["می\u200cرود"], -1.0, -1.0, True, None)  # a joiner belongs to the spelling
    assert list(lines("a", [joined], as_json=False)) == ["a: می\u200cرود"]


def test_a_terminal_with_another_encoding_gets_escaped_json(monkeypatch):
    said = Caption("a café ☕", ["a", "café", "☕"], -1.0, -1.0, True, None)
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    (line,) = lines("☕.png", [said], as_json=True)
    assert line.encode("latin-1") and json.loads(line)["caption"] == said.text
