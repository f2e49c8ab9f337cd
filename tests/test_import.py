"""`showtell import`: what it prints, and what it changes in params.yaml."""

import argparse
import tarfile

import pytest
from conftest import ROOT, inside

from showtell.commands import import_
from showtell.commands.import_ import histogram
from showtell.commands.photographs import settings_for
from showtell.commands.recipe import flat
from showtell.core.errors import UserError
from showtell.core.yaml_files import parsed, read_sections

PARAMS = (ROOT / "params.yaml").read_text()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "my photos").mkdir()
    for i in range(20):
        (tmp_path / "my photos" / f"{i}.jpg").write_bytes(bytes([i]))
    rows = "".join(f"{i}.jpg,a dog number {i}\n" for i in range(19))
    (tmp_path / "c.csv").write_text(f"image,caption\n{rows}19.jpg,\n")
    return tmp_path


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    import_.add_arguments(parser)
    return import_.run(parser.parse_args([*arguments, "--no-plan"]))


def test_it_ends_with_the_plan(home, monkeypatch, capsys):
    from showtell.commands import plan

    monkeypatch.setattr(plan, "run", lambda args: print("train  3 h"))
    parser = argparse.ArgumentParser()
    import_.add_arguments(parser)
    assert import_.run(parser.parse_args(["my photos", "c.csv"])) == 0
    assert capsys.readouterr().out.endswith("train  3 h\nnext: dvc repro\n")
    monkeypatch.undo()
    monkeypatch.chdir(home)
    assert import_.run(parser.parse_args(["my photos", "c.csv"])) == 0  # there is no dvc.yaml
    assert "what that costs cannot be told: dvc.yaml does not exist" in capsys.readouterr().err


def test_the_dataset_is_described_and_params_are_set(home, capsys):
    (home / "my photos" / "more.png").write_bytes(b"x")
    assert call("my photos", "c.csv", "--val", "0.2", "--split-seed", "3") == 0
    out = capsys.readouterr().out
    assert "format            table" in out
    assert "images            19\n" in out and "captions          19\n" in out
    assert "captions without text    1 (19.jpg)" in out
    assert "splits            train 13, val 4, test 2" in out
    assert "words             76, 22 distinct, 3 five times or more" in out
    assert "images without captions  2 (19.jpg, more.png)" in out
    assert "captions without images  0" in out
    found = read_sections(home / "params.yaml")
    assert found["dataset"] == "custom"
    assert found["custom"] == {
        "images": str(home / "my photos"), "captions": str(home / "c.csv"), "format": "auto", "val": 0.2, "test": 0.1,
        "split_seed": 3,
    }  # fmt: skip


def test_captions_that_an_image_has_twice_are_counted(home, capsys):
    (home / "c.csv").write_text((home / "c.csv").read_text() + "0.jpg,a dog number 0\n0.jpg,a dog number 1\n")
    assert call("my photos", "c.csv") == 0
    out = capsys.readouterr().out
    assert "captions          21\n" in out and "captions given again     1 (0.jpg)" in out


def changed(home) -> dict:
    """The differences from the repository's params.yaml; comments and order are kept."""
    text = (home / "params.yaml").read_text()
    assert [line.partition("#")[2] for line in text.splitlines() if "#" in line] == [
        line.partition("#")[2] for line in PARAMS.splitlines() if "#" in line
    ]
    before = dict(flat(parsed(PARAMS, "params.yaml")))
    return {key: value for key, value in flat(parsed(text, "params.yaml")) if before[key] != value}


def test_settings_can_be_kept(home):
    call("my photos", "c.csv", "--keep")
    assert changed(home).keys() == {"dataset", "custom.images", "custom.captions", "reinforce.truth"}


@pytest.mark.parametrize(
    ("gpu", "chosen"), [(False, "mobilenet_v2"), (True, "timm/vit_base_patch16_clip_quickgelu_224.openai")]
)
def test_the_recipe_fits_the_machine(home, monkeypatch, capsys, gpu, chosen):
    """Encoders without weights learn little from a few thousand photographs."""
    monkeypatch.setattr("showtell.core.precision.accelerated", lambda: gpu)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    call("my photos", "c.csv")
    found = changed(home)
    assert (found["encoder.name"], found["encoder.weights"], found["resize.size"]) == (chosen, "DEFAULT", 224)
    assert found["finetune.batch_norm"] == "frozen" and found["vocab.min_count"] == 2
    assert ("no GPU" in capsys.readouterr().out) != gpu


def test_a_recipe_can_be_asked_for(home):
    call("my photos", "c.csv", "--recipe", "show-attend-tell")
    found = read_sections(home / "params.yaml")
    assert found["encoder"]["name"] == "resnet101" and found["train"]["epochs"] == 120
    with pytest.raises(UserError, match="there is no recipe 'photos'"):
        call("my photos", "c.csv", "--recipe", "photos")


def test_a_recipe_given_as_a_file_gets_the_same_schedule(home):
    found = []
    for name in ("photographs", "recipes/photographs.yaml", "photographs.yaml"):
        call("my photos", "c.csv", "--recipe", name)
        found.append((home / "params.yaml").read_text())
    assert found[1:] == found[:1] * 2


def test_the_schedule_follows_the_number_of_images(monkeypatch):
    monkeypatch.setattr("showtell.core.precision.accelerated", lambda: False)
    with inside(ROOT):
        few, many, crowd = (settings_for(images).overlay for images in (300, 8_000, 120_000))
    assert few["train"]["epochs"] > many["train"]["epochs"] > crowd["train"]["epochs"] >= 1
    assert few["learning"]["warmup_updates"] < many["learning"]["warmup_updates"]
    assert few["train"]["epochs"] * 300 > many["train"]["epochs"] * 8_000 / 5  # few images do not mean few updates
    assert few["reinforce"]["epochs"] < few["train"]["epochs"]
    for section, stage, part in (("learning", "train", 10), ("pretrain", "pretrain", 5)):
        warmup = few[section]["warmup_updates"]  # the learning rate reaches its peak early
        assert 0 < warmup <= few[stage]["epochs"] * (300 // few[stage]["images_per_update"] + 1) / part
    assert many["pretrain"]["warmup_updates"] == 100  # as the recipe has it
    assert few["detection"]["min_images"] == 15 and many["detection"]["min_images"] == 20
    with inside(ROOT):
        assert settings_for(0).overlay["train"]["epochs"] == few["train"]["epochs"]
        named, other = (settings_for(300, name).overlay for name in ("photographs-efficientnet", "show-attend-tell"))
    assert named["train"]["epochs"] == few["train"]["epochs"] and other["train"]["epochs"] == 120  # as it is
    assert (few["vocab"]["min_count"], many["vocab"]["min_count"]) == (2, 5)


@pytest.mark.parametrize("images", [8, 24, 60, 399])
def test_there_can_be_words_to_detect_however_few_images(monkeypatch, images):
    monkeypatch.setattr("showtell.core.precision.accelerated", lambda: False)
    with inside(ROOT):
        words = settings_for(images).overlay["detection"]
    assert 2 <= words["min_images"] <= words["max_share"] * images


def test_a_share_for_a_split_that_the_file_names_is_told(home, capsys):
    rows = (f"{i}.jpg,a dog,{'val' if i < 3 else 'train'}\n" for i in range(19))
    (home / "c.csv").write_text("image,caption,split\n" + "".join(rows))
    call("my photos", "c.csv", "--val", "0.2", "--test", "0.2", "--dry-run")
    told = capsys.readouterr().err
    assert "--val is not used: c.csv names the images of val" in told and "--test" not in told


def test_importing_twice_gives_the_same_params(home):
    call("my photos", "c.csv")
    once = (home / "params.yaml").read_text()
    call("my photos", "c.csv")
    assert (home / "params.yaml").read_text() == once


def test_dry_run_changes_nothing_and_tells_the_recipe(home, capsys):
    assert call("my photos", "c.csv", "--recipe", "photographs", "--dry-run") == 0
    assert (home / "params.yaml").read_text() == PARAMS
    dry = capsys.readouterr().out
    assert "\nrecipe            photographs (asked for; " in dry and "train.epochs " in dry
    assert dry.endswith("params.yaml is left alone (--dry-run)\n")
    call("my photos", "c.csv", "--recipe", "photographs")
    assert capsys.readouterr().out.startswith(dry.rpartition("params.yaml is")[0])


@pytest.mark.parametrize(("arguments", "message"), [
    (("--recipe", "nope"), "there is no recipe 'nope'"),
    (("--val", "0.01", "--test", "0.01"), r"c\.csv: too few images to split"),
])  # fmt: skip
def test_a_dry_run_refuses_what_the_real_run_would(home, arguments, message):
    for flags in (("--dry-run",), ()):
        with pytest.raises(UserError, match=message):
            call("my photos", "c.csv", *arguments, *flags)
    (home / "my photos" / "4.jpg").unlink()
    for flags in (("--dry-run",), ()):
        with pytest.raises(UserError, match="1 captioned images have no picture"):
            call("my photos", "c.csv", *flags)
    assert (home / "params.yaml").read_text() == PARAMS


def test_a_dry_run_leaves_no_files(home):
    with tarfile.open(home / "photos.tar.gz", "w:gz") as archive:
        archive.add(home / "my photos", "photos")
    assert call("photos.tar.gz", "c.csv", "--dry-run") == 0
    assert not list(home.rglob("*.tar"))


def test_small_splits_are_refused_with_their_sizes(home):
    (home / "c.csv").write_text("image,caption\n" + "".join(f"{i}.jpg,a dog\n" for i in range(14)))
    for flags in (("--dry-run",), ()):
        with pytest.raises(UserError, match=r"c\.csv: too few images to split: train 12, val 1, test 1; at least"):
            call("my photos", "c.csv", *flags)
    assert (home / "params.yaml").read_text() == PARAMS


def test_missing_pictures_are_an_error(home, capsys):
    (home / "my photos" / "4.jpg").unlink()
    with pytest.raises(UserError, match="1 captioned images have no picture"):
        call("my photos", "c.csv")
    assert "captions without images  1 (4.jpg)" in capsys.readouterr().out
    assert (home / "params.yaml").read_text() == PARAMS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere", "c.csv"), "nowhere does not exist"),
        (("my photos", "nothing.csv"), r"no captions file nothing\.csv"),
        (("my photos", "c.csv", "--val", "0.7"), r"--val 0\.7: must be between"),
        (("my photos", "c.csv", "--split-seed", "-1"), "--split-seed -1"),
    ],
)
def test_wrong_arguments(home, arguments, message):
    with pytest.raises(UserError, match=message):
        call(*arguments)


def test_histogram_counts_everything():
    lines = list(histogram([1, 2, 2, 30, 11]))
    assert sum(int(line.split()[1]) for line in lines) == 5 and len(lines) <= 13
    assert list(histogram([])) == []


def test_control_characters_of_a_name_never_reach_the_terminal(home, capsys):
    (home / "my photos" / "more\x1b[2J.png").write_bytes(b"x")
    assert call("my photos", "c.csv", "--val", "0.2") == 0
    assert "more\ufffd[2J.png" in capsys.readouterr().out


def test_pictures_that_dvc_would_delete_are_refused(home):
    (home / "data/raw").mkdir(parents=True)
    (home / "my photos").rename(home / "data/raw/images")
    with pytest.raises(UserError, match=r"data/raw/images: the pipeline writes data/raw/images there"):
        call("data/raw/images", "c.csv")
    assert (home / "params.yaml").read_text() == PARAMS
