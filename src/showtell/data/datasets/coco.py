"""COCO 2014 with Karpathy's splits, and COCO's object boxes for metrics on objects."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from showtell.core.errors import UserError
from showtell.core.files import parse_json, read_json
from showtell.core.terminal import one_line
from showtell.data.datasets.archives import open_archive
from showtell.data.datasets.coco_names import SYNONYMS, read_synonyms
from showtell.data.datasets.karpathy import Record
from showtell.data.datasets.published import Published
from showtell.data.datasets.transfer import RemoteFile

ANNOTATIONS = "annotations_trainval2014.zip"
# Karpathy's val and test are both parts of val2014, so this file has all boxes that evaluation can use.
INSTANCES = "instances_val2014.json"
OWN_SYNONYMS = "synonyms.txt"  # replaces the list of this package
UNKNOWN = {"setting": None, "unseen": False}


def objects(source: Path, records: Sequence[Record]) -> dict[str, Any]:
    """objects.json of the val and test images, from COCO's instances if `source` has them, else `{}`.

    Crowds are regions with many of a kind; their boxes count as one object. COCO has no colours and no settings.
    """
    content = _instances(source)
    if content is None:
        return {}
    wanted = {record.image_id for record in records if record.split != "train"}
    try:
        kinds = {category["id"]: category["name"] for category in content["categories"]}
        images: dict[str, Any] = {
            str(image["id"]): {"size": [image["width"], image["height"]], **UNKNOWN, "objects": []}
            for image in content["images"]
            if image["id"] in wanted
        }
        for instance in content["annotations"]:
            if instance["image_id"] in wanted:
                left, top, width, height = instance["bbox"]
                box = [left, top, left + width, top + height]
                if not all(map(math.isfinite, box)):
                    raise ValueError("a bbox is not finite")
                found = {"kind": kinds[instance["category_id"]], "colour": None, "box": box}
                images[str(instance["image_id"])]["objects"].append(found)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{source}: {INSTANCES} is not a file of COCO instances: {one_line(repr(error))}") from None
    own = next((folder / OWN_SYNONYMS for folder in _folders(source) if (folder / OWN_SYNONYMS).is_file()), SYNONYMS)
    # Captions name things that COCO's annotators left out; objects in the references count as present, as published.
    return {"names": read_synonyms(own, kinds.values()), "references_tell": True, "images": images}


def _folders(source: Path) -> list[Path]:
    """Folders in which annotations may be found."""
    return [source, source / "annotations"]


def _instances(source: Path) -> Any:
    places = _folders(source)
    loose = next((place / INSTANCES for place in places if (place / INSTANCES).is_file()), None)
    if loose is not None:
        return read_json(loose)
    packed = next((place / ANNOTATIONS for place in places if (place / ANNOTATIONS).is_file()), None)
    if packed is None:
        return None
    archive = open_archive(packed, source)
    name = next((name for name in archive.names if name.rpartition("/")[2] == INSTANCES), None)
    return parse_json(archive.read(name), f"{packed}: {name}") if name else None


def _zip(name: str, size: int, sha256: str) -> RemoteFile:
    # images.cocodataset.org supports plain http only; the checksum verifies the content.
    hosts = ("http://images.cocodataset.org", "https://s3.amazonaws.com/images.cocodataset.org")
    return RemoteFile(name, tuple(f"{host}/zips/{name}" for host in hosts), size, sha256)


# Lin et al., "Microsoft COCO: Common Objects in Context" (2014).
COCO = Published(
    name="coco",
    captions_json="dataset_coco.json",
    pictures=(
        _zip("train2014.zip", 13_510_573_713, "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775"),
        _zip("val2014.zip", 6_645_013_297, "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0"),
    ),
    folders=(("train2014",), ("val2014",)),
    counts={"train": 113_287, "val": 5_000, "test": 5_000},
    help=(
        "COCO is at https://cocodataset.org/#download: put train2014.zip and val2014.zip, or their folders, in a "
        "folder and set download.source to it"
    ),
    other_captions=(
        # The same content, indented, kept in Git LFS.
        RemoteFile(
            "dataset_coco.json",
            ("https://github.com/Delphboy/karpathy-splits/raw/main/dataset_coco.json",),
            size=408_860_810,
            sha256="af76e819987c9ced8452fdb4da823524e033f7baa097cf40bab83bdab4c469ea",
        ),
    ),
    objects=objects,
)
