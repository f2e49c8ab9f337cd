"""Small datasets in the exact layouts of COCO, Flickr8k and Flickr30k, and the stages to run them through."""

import importlib.util
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from showtell.core.yaml_files import set_values

ROOT = Path(__file__).resolve().parents[1]
CAPTIONS = ("A dog runs.", "The dog runs on grass .", "a brown dog", "Dog, running!", "there is a dog on the grass")


def jpeg(number: int, mode: str = "RGB") -> bytes:
    """A small photograph-like picture; each number gives another one."""
    rng = np.random.default_rng(number)
    soft = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    soft.convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


def words_of(said: str) -> list[str]:
    return said.lower().strip(" .!").replace(",", "").split()


def entry(number: int, split: str, filename: str, **more) -> dict:
    sentences = [
        {"tokens": words_of(said), "raw": said, "imgid": number, "sentid": 5 * number + i}
        for i, said in enumerate(CAPTIONS)
    ]
    sentids = [sentence["sentid"] for sentence in sentences]
    return {"sentids": sentids, "imgid": number, "sentences": sentences, "split": split, "filename": filename} | more


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            archive.writestr(f"{folder}/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_coco(folder: Path, count: int = 12) -> list[int]:
    """train2014.zip, val2014.zip, annotations_trainval2014.zip, caption_datasets.zip; returns the COCO ids in order."""
    images: list[dict] = []
    archives: dict[str, dict[str, bytes]] = {"train2014": {}, "val2014": {}}
    for number in range(count):
        split, cocoid = ("train", "test", "restval", "val")[number % 4], 100_000 + 7 * number
        place = "train2014" if split == "train" else "val2014"
        name = f"COCO_{place}_{cocoid:012d}.jpg"
        archives[place][f"{place}/{name}"] = jpeg(number, ("RGB", "L", "CMYK")[number % 3])
        images.append(entry(number, split, name, filepath=place, cocoid=cocoid))
    for place, files in archives.items():
        zip_of(folder / f"{place}.zip", files)
    instances = {
        "images": [{"id": i["cocoid"], "width": 64, "height": 48, "file_name": i["filename"]} for i in images],
        "annotations": [
            {"id": n, "image_id": i["cocoid"], "category_id": 18, "bbox": [1.5, 2, 30, 20], "iscrowd": 0}
            for n, i in enumerate(images)
        ],
        "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
    }
    zip_of(
        folder / "annotations_trainval2014.zip",
        {"annotations/instances_val2014.json": json.dumps(instances).encode()},
    )
    zip_of(
        folder / "caption_datasets.zip",
        {"dataset_coco.json": json.dumps({"images": images, "dataset": "coco"}).encode()},
    )
    return [image["cocoid"] for image in images]


def make_flickr(folder: Path, name: str, count: int = 12) -> list[str]:
    """Flickr8k_Dataset.zip or flickr30k-images.tar.gz, and caption_datasets.zip; returns the file names in order."""
    splits = ("train", "val", "test", "train")
    files = [f"{1000 + number}_{number:010x}.jpg" for number in range(count)]
    images = [entry(number, splits[number % 4], file) for number, file in enumerate(files)]
    content = json.dumps({"images": images, "dataset": name}).encode()
    zip_of(folder / "caption_datasets.zip", {f"dataset_{name}.json": content})
    if name == "flickr8k":
        pictures = {f"Flicker8k_Dataset/{file}": jpeg(number) for number, file in enumerate(files)}
        zip_of(folder / "Flickr8k_Dataset.zip", pictures | {f"__MACOSX/Flicker8k_Dataset/._{files[0]}": b"fork"})
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(folder / "flickr30k-images.tar.gz", "w:gz") as archive:
            for number, file in enumerate(files):
                info = tarfile.TarInfo(f"flickr30k-images/{file}")
                info.size = len(jpeg(number))
                archive.addfile(info, io.BytesIO(jpeg(number)))
    return files


def settle(folder: Path, **values) -> None:
    """A params.yaml in `folder` with these changes; `vocab__min_count=1` is vocab.min_count."""
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    if values.get("dataset", "scenes") != "scenes":  # objects in the pictures are unknown
        values = {"reinforce__truth": 0.0, **values}
    set_values(folder / "params.yaml", {key.replace("__", "."): value for key, value in values.items()})


def stage(name: str) -> ModuleType:
    """The stage script as a module; `.main()` runs it in the current directory."""
    spec = importlib.util.spec_from_file_location(f"stage_{name}", ROOT / "stages" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
