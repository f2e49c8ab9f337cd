"""`showtell plan`: estimates of time and space from a run on a sample."""

import json
import os
import pkgutil
import signal
import subprocess
from types import SimpleNamespace

import pytest
from conftest import ROOT, TINY, inside
from test_pictures import make_tar

from showtell.commands import cli, plan
from showtell.commands.costs import estimates, sample_run
from showtell.commands.costs.estimates import Images, estimated
from showtell.commands.costs.sample import look, make_sample, shorten, sizes
from showtell.commands.costs.sample_run import FIT, IMAGE_WORK, PARTS, Ran, Times
from showtell.commands.recipe import flat
from showtell.core.files import write_json
from showtell.core.params import load_all
from showtell.core.paths import CAPTIONS_RAW, SOURCE, SPLITS
from showtell.core.yaml_files import read_sections, set_values
from showtell.data.datasets import karpathy
from showtell.data.datasets.coco import COCO
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.outside import states

IMAGES = Images(
    {"train": 8000, "val": 1000, "test": 1000},
    {"train": 96, "val": 32, "test": 32},
    {"train": 4, "val": 4, "test": 4},
)
PARAMS = {"dataset": "scenes", "evaluate": SimpleNamespace(pictures=12, remembered=20_000)}


def seconds(name: str, times: Times, again: Times | None = None, **params: object) -> float:
    return estimated({name: times}, {} if again is None else {name: again}, PARAMS | params, IMAGES)[name]


def test_time_that_is_linear_in_the_images():
    """4 s of start, 0.1 s an image; other work had most of the processor when the sample was measured."""
    sample, few = Times(whole=99, processor=4 + 16), Times(whole=9, processor=4 + 1.2)
    assert seconds("vocab", sample, few) == pytest.approx(4 + 1000)


def test_the_start_is_not_multiplied_by_the_images():
    sample, few = Times(processor=4.0), Times(processor=4.1)  # noise: the images take next to nothing
    assert seconds("download", sample, few) == pytest.approx(4)


def test_workers_divide_the_images(monkeypatch):
    """The sample is measured on one core."""
    monkeypatch.setattr(estimates, "cores", lambda: 4)
    sample, few = Times(processor=4 + 16), Times(processor=4 + 1.2)
    assert seconds("download", sample, few) == pytest.approx(4 + 1000 / 4)
    assert seconds("download", sample, few, dataset="custom") == pytest.approx(4 + 1000)  # pictures are not drawn
    pictures = Times(4 + 5 + 15.9, images=[(5, 1), *[(0.1, 1)] * 159])  # the first takes longer
    assert seconds("resize", pictures) == pytest.approx(4 + 5 + 15.9 + 0.1 * (10_000 - 160) / 4)


def test_features_are_made_of_train_and_val():
    """4 s of start, 0.01 s an image; the first call takes a second longer."""
    times = Times(4 + 1.64 + 0.32 + 0.32, images=[(1.64, 64), (0.32, 32), (0.32, 32)])
    assert seconds("features", times) == pytest.approx(4 + 1 + 90)


def test_time_of_training_is_start_updates_and_validations():
    """5 s of start, 250 updates of 2 s in each of 6 epochs, 0.1 s for a val image; the first of each takes longer."""
    times = Times(5 + 9 + 3.2, updates=[[5, 2, 2]], validations=[3.2])
    found = seconds("train", times, train=SimpleNamespace(epochs=6, images_per_update=32))
    assert found == pytest.approx(5 + 6 * (250 * 2 + 100))


def test_epochs_with_all_blocks_trainable_take_longer():
    times = Times(2 + 13 + 3 + 2, updates=[[5, 4, 4], [1, 1, 1]], validations=[1, 1])
    params = SimpleNamespace(epochs=5, front_epochs=2, images_per_update=32)
    found = seconds("encoder", times, pretrain=params)
    assert found == pytest.approx(2 + 250 * (2 * 4 + 3 * 1) + 5 * 1000 / 32)


def test_reinforce_validates_its_start_and_encodes_images_without_features():
    """0.01 s to encode an image, 0.1 s to validate one, updates of 2 s, 3 s of start."""
    times = Times(3 + 1.28 + 6 + 6.4, updates=[[2, 2, 2]], validations=[3.2, 3.2], images=[(0.96, 96), (0.32, 32)])
    for flip, finetuned, encoding in ((False, 1, 90), (True, 1, 90 + 80), (True, 0, 80)):
        training = SimpleNamespace(epochs=2, images_per_update=32, flip=flip)
        found = seconds("reinforce", times, reinforce=training, finetune=SimpleNamespace(epochs=finetuned))
        assert found == pytest.approx(3 + encoding + 2 * 250 * 2 + 3 * 100)


def test_a_stage_that_learns_nothing_takes_what_it_took():
    assert seconds("finetune", Times(1.5)) == 1.5


def test_parts_of_evaluation_grow_with_what_they_work_on():
    """0.1 s for an image of val, 0.2 s for one of test, 0.5 s for a drawn one; METEOR's start and 3 s of other work."""
    times = Times(3 + 4 + 3.2 + 6.4 + 1, parts={"val": 3.2, "test": 6.4, "pictures": 1, "meteor": 4})
    assert seconds("evaluate", times) == pytest.approx(3 + 4 + 100 + 200 + 6)


def test_what_evaluate_remembers_does_not_grow_without_end():
    params = load_all(ROOT / "params.yaml")
    most = params["evaluate"].remembered
    images = Images(dict.fromkeys(SPLITS, 10 * most), dict.fromkeys(SPLITS, 100), dict.fromkeys(SPLITS, 4))
    found = estimates.estimated({"evaluate": Times(whole=3.0, parts={"train": 1.0})}, {}, params, images)
    assert found["evaluate"] == pytest.approx(2 + most / 100)


def test_every_function_that_is_timed_is_there():
    for name in (FIT, *(name for name, _ in IMAGE_WORK.values()), *(name for part in PARTS.values() for name in part)):
        assert callable(pkgutil.resolve_name(name))


def test_a_method_of_a_class_is_timed(monkeypatch):
    monkeypatch.setattr(Thing, "twice", Thing.twice)  # restored afterwards
    sample_run._replace(f"{__name__}.Thing.twice", lambda function: lambda thing: 10 * function(thing))
    assert Thing().twice() == 20


class Thing:
    def twice(self):
        return 2


def test_the_sample_s_limit_of_length_fits_the_sweep():
    params = load_all(ROOT / "params.yaml")
    sweep = params["sweep"].model_copy(update={"others": [{"min_length": 12}, {"max_length": 9}, {"consensus": 1.0}]})
    changed = estimates._no_longer_than(8, params | {"sweep": sweep})
    assert changed["search.max_length"] == 8
    assert [other["max_length"] for other in changed["sweep.others"]] == [12, 8, 8]
    none = params["sweep"].model_copy(update={"others": None})
    assert estimates._no_longer_than(8, params | {"sweep": none})["sweep.others"] is None


class Clock:
    """A clock that stands still until work is done."""

    def __init__(self, monkeypatch):
        self.seconds = 0.0
        monkeypatch.setattr(sample_run, "_now", lambda: self.seconds)

    def work(self, seconds: float) -> None:
        self.seconds += seconds


def test_updates_and_validations_are_timed(monkeypatch):
    clock, times = Clock(monkeypatch), Times()

    def fit(task, epoch_batches, validate, params, judge_first):
        validate()
        for epoch in range(2):
            clock.work(10)  # is part of neither
            batches = epoch_batches(epoch)
            assert len(batches) == 2
            for batch in batches:
                clock.work(batch)
            validate()
        return "history"

    def validate():
        clock.work(3)

    assert times.timed_fit(fit)(None, lambda epoch: [1 + epoch, 2], validate, {}, judge_first=True) == "history"
    assert times.updates == [[1, 2], [2, 2]] and times.validations == [3, 3, 3]


def test_work_on_images_is_timed_call_by_call(monkeypatch):
    clock, times = Clock(monkeypatch), Times()
    encode = times.timed_images(lambda encoder, images, rows: len(rows), lambda encoder, images, rows: clock.work(2))
    for rows in ([1, 2, 3], [4]):
        encode(None, None, rows)
    assert times.images == [(2, 3), (2, 1)]


def test_parts_are_timed_without_the_parts_that_they_call(monkeypatch):
    clock, times = Clock(monkeypatch), Times()
    inner = times.timed_part("meteor", lambda: clock.work(5))

    def outer():
        clock.work(1)
        inner()
        clock.work(2)

    for _ in range(2):
        times.timed_part("test", outer)()
    assert times.parts == {"meteor": 10, "test": 6}


def test_generated_captions_end_after_as_many_words_as_given_ones(tmp_path):
    """Those of train have 3 words on average."""
    path = tmp_path / "data/raw/captions.json"
    path.parent.mkdir(parents=True)
    four, two = ["a", "b", "c", "d"], ["a", "b"]
    splits = {"train": [four, two], "val": [four, two], "test": [four]}
    karpathy.write(
        path, "sample", [Record(k, f"{k}.jpg", k, [" ".join(w) for w in words], words) for k, words in splits.items()]
    )
    assert shorten(tmp_path, ["val"]) == 3
    found = {record.split: record for record in karpathy.stream(path)}
    assert found["train"].words == [four, two] and found["test"].words == [four]
    assert found["val"].words == [four[:3], two] and found["val"].captions == ["a b c", "a b"]


def test_stages_after_a_changed_stage_run_too(tmp_path, monkeypatch):
    stages = read_sections(ROOT / "dvc.yaml")["stages"]
    monkeypatch.chdir(tmp_path)  # where no run has left its record

    def status(changed: list[str]):
        said = json.dumps({name: [] for name in ["source", *changed]})
        return lambda *args, **options: SimpleNamespace(returncode=0, stdout=said, stderr="")

    for changed, wanted in (
        ([], set()),
        (["evaluate"], {"evaluate"}),
        (["train"], {"train", "finetune", "reinforce", "evaluate"}),
        (["download"], set(stages) - {"check", "source"}),
    ):
        monkeypatch.setattr(subprocess, "run", status(changed))
        assert plan.to_run(stages, PARAMS) == wanted
    monkeypatch.setattr(subprocess, "run", status(["photos.dvc"]))  # `dvc add photos`, and then a change
    assert plan.to_run(stages, PARAMS) == set()


def test_a_picture_added_since_the_last_run_is_a_change(tmp_path, monkeypatch):
    """`dvc status` compares the record of the last run, which is as it was."""
    stages = read_sections(ROOT / "dvc.yaml")["stages"]
    done = SimpleNamespace(returncode=0, stdout='{"source": ["always changed"]}', stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: done)
    (tmp_path / "photos").mkdir()
    (tmp_path / "c.csv").write_text("image,caption\na.jpg,a dog\n")
    params = {"dataset": "custom", "download": None, "custom": SimpleNamespace(images="photos", captions="c.csv")}
    with inside(tmp_path):
        found = states({"custom.images": "photos", "custom.captions": "c.csv"}, SOURCE)
        write_json(SOURCE, {"dataset": "custom", **found})
        assert plan.to_run(stages, params) == set()
        (tmp_path / "photos/a.jpg").write_bytes(b"a picture")
        assert plan.to_run(stages, params) == set(stages) - {"check", "source"}


def test_the_size_of_downloads_is_listed(tmp_path):
    params = load_all(ROOT / "params.yaml")
    with inside(tmp_path):
        assert list(plan.downloads(params, {"download"})) == []
        write_json(CAPTIONS_RAW, {"dataset": "scenes"})  # of the run before
        assert "train2014.zip, 13.5 GB" in list(plan.downloads(params | {"dataset": "coco"}, {"download"}))
        assert list(plan.downloads(params | {"dataset": "coco"}, {"evaluate"})) == []
        for weights in ("DEFAULT", "openai", "none", "scenes", "a.pth"):
            encoder = params["encoder"].model_copy(update={"weights": weights})
            told = any(weights in line for line in plan.downloads(params | {"encoder": encoder}, {"encoder"}))
            assert told == (weights in ("DEFAULT", "openai"))


def test_pictures_that_are_downloaded_need_disk_and_captions_that_are_here_no_download(tmp_path):
    captions = tmp_path / "here.json"
    captions.write_text("{}")
    (tmp_path / "coco").mkdir()
    params = load_all(ROOT / "params.yaml") | {"dataset": "coco"}
    zips = sum(file.size for file in COCO.pictures)

    def told(**changes: object) -> tuple[list[str], int]:
        changed = params | {"download": params["download"].model_copy(update=changes)}
        with inside(tmp_path):
            return [line.split(",")[0] for line in plan.downloads(changed, {"download"})], look(changed).archives

    assert told() == (["caption_datasets.zip", *(file.name for file in COCO.pictures)], zips)
    assert told(captions=str(captions)) == ([file.name for file in COCO.pictures], zips)
    assert told(source="coco") == (["caption_datasets.zip"], 0), "no captions in that folder"
    (tmp_path / "coco" / "dataset_coco.json").write_text("{}")
    assert told(source="coco") == ([], 0)


@pytest.mark.parametrize("dataset", ["scenes", "flickr8k"])
def test_a_sample_is_valid_and_keeps_the_cost_of_an_image(tmp_path, dataset):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_values(tmp_path / "params.yaml", {"dataset": dataset, "reinforce.chair": 0.0, "reinforce.truth": 0.0})
    with inside(tmp_path):
        params = load_all()
        whole = look(params)
        _, counts = sizes(whole, params)
        make_sample(tmp_path / "sample", whole, counts)
        sample, own = load_all(tmp_path / "sample/params.yaml"), load_all()
    assert sample["resize"].size == own["resize"].size and sample["decoder"] == own["decoder"]
    assert sample["train"].images_per_update == own["train"].images_per_update and sample["train"].epochs == 1
    pictures = list((tmp_path / "sample/pictures").glob("*.jpg"))
    assert len(pictures) == (0 if dataset == "scenes" else sum(counts.values()))


@pytest.mark.long
def test_a_plan_of_a_tiny_pipeline(tmp_path, capsys):
    """Stages run on a sample: every stage has a line, and the sum counts the stages that have to run."""
    for name in ("dvc.yaml", "params.yaml", "stages", "src", ".dvc", "recipes"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").unlink()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_values(tmp_path / "params.yaml", dict(flat(TINY)))
    measured = {}

    def noted(ran, *others):
        measured.update(ran)
        return estimated(ran, *others)

    with inside(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "to_run", lambda stages, params: set(stages))
        patch.setattr(estimates, "estimated", noted)
        assert cli.dispatch(["plan"]) == 0
    lines = capsys.readouterr().out.splitlines()
    stages = [name for name in read_sections(ROOT / "dvc.yaml")["stages"] if name != "check"]
    assert [line.split()[0] for line in lines][-len(stages) - 1 : -1] == stages
    assert not (tmp_path / "work/plan").exists()
    for name in estimates.TRAINING:
        assert all(len(epoch) == 3 for epoch in measured[name].updates) and measured[name].validations
    for name, parts in PARTS.items():
        assert set(measured[name].parts) == set(parts.values())
    for name in IMAGE_WORK:
        assert len(measured[name].images) > 1


@pytest.mark.parametrize("dataset", ["scenes", "coco"])
def test_every_stage_has_its_cost_and_is_up_to_date_or_not(tmp_path, monkeypatch, capsys, dataset):
    """A plan of stages that take a second each and write a megabyte; COCO's pictures, which no sample has, are more."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    set_values(tmp_path / "params.yaml", {"dataset": dataset, "reinforce.chair": 0.0, "reinforce.truth": 0.0})
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    stages = read_sections(ROOT / "dvc.yaml")["stages"]

    def run_stage(name, folder, one_core=False):
        for out in estimates.paths_of(stages[name], "outs"):
            (folder / out).mkdir(parents=True, exist_ok=True)
            (folder / out / "file").write_bytes(bytes(10**6))
        return Ran(Times(1.0, 1.0), 10**9)

    monkeypatch.setattr(plan, "Stages", lambda: SimpleNamespace(run=run_stage))
    monkeypatch.setattr(estimates, "fill_vocabulary", lambda folder, words: None)
    monkeypatch.setattr(estimates, "shorten", lambda folder, splits, words=None: 10)
    monkeypatch.setattr(plan, "to_run", lambda stages, params: {"finetune", "evaluate"})
    with inside(tmp_path):
        assert cli.dispatch(["plan"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    table = {line[0]: line for line in lines[-len(stages) :]}
    assert list(table) == [*(name for name in stages if name != "check"), "to"]
    disk = float(table["download"][-5]) * {"MB": 1e6, "GB": 1e9}[table["download"][-4]]
    assert (disk > sum(file.size for file in COCO.pictures)) == (dataset == "coco")
    assert table["train"][-3:] == ["up", "to", "date"] and table["source"][-2:] == ["every", "time"]
    assert table["finetune"][-1] == "MB"
    assert not (tmp_path / "work/plan").exists()


def test_a_plan_leaves_no_copy_of_a_compressed_archive(tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    make_tar(tmp_path / "p.tgz", {f"{number}.jpg": b"picture" for number in range(9)}, "w:gz")
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    (tmp_path / "c.csv").write_text("file,caption\n" + "".join(f"{number}.jpg,a dog runs\n" for number in range(9)))
    own = {"dataset": "custom", "custom.images": "p.tgz", "custom.captions": "c.csv", "custom.val": 0.3}
    set_values(tmp_path / "params.yaml", own | {"custom.test": 0.3, "reinforce.chair": 0.0, "reinforce.truth": 0.0})
    monkeypatch.setattr(plan, "Stages", lambda: None)
    monkeypatch.setattr(plan, "to_run", lambda stages, params: set())
    with inside(tmp_path):
        assert cli.dispatch(["plan"]) == 0
    assert "nothing to run" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.tar"))


def test_samples_of_killed_plans_are_removed(tmp_path):
    left = tmp_path / "work/plan/large/params.yaml"
    left.parent.mkdir(parents=True)
    left.touch()
    with inside(tmp_path), pytest.raises(SystemExit), estimates.samples() as folder:
        assert not list(folder.iterdir())
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert not left.parent.parent.exists()
