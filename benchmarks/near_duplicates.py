"""False alarms of the near-duplicate check, and the changes of a picture that it detects.

    python benchmarks/near_duplicates.py PICTURES        a folder, an archive, or a store (data/images/train.h5)
    python benchmarks/near_duplicates.py TRAIN.h5 TEST.h5

Compares the hashes of all pairs of pictures (or, for two stores, of all pairs between them) exhaustively, and counts
pairs by the number of bits that differ. Then changes 150 pictures and counts those that are still detected.
"""

import io
import sys
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from showtell.data.datasets.picture_files import Pictures
from showtell.data.near_duplicates import MOST, picture_hash
from showtell.data.store import RowReader
from showtell.data.transform import Transform, load_image

CHANGED = 150
TRANSFORM = Transform(128, "stretch")


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def trimmed(image: Image.Image) -> Image.Image:
    x, y = (round(0.03 * side) for side in image.size)
    return image.crop((x, y, image.width - x, image.height - y))


CHANGES = {
    "JPEG, quality 30": compressed,
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "a fifth brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "3% off each side": trimmed,
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def images(path: Path):
    if path.suffix == ".h5":
        store = RowReader(path, "images")
        return (Image.fromarray(store.rows([row])[0].transpose(1, 2, 0)) for row in range(len(store)))
    pictures = Pictures.of([path])
    return (load_image(pictures.read(file)) for file in pictures.files())


def bits_of(hashes: list[str]) -> np.ndarray:
    """(picture, bit), 0 or 1."""
    return np.unpackbits(np.array([[*bytes.fromhex(digits)] for digits in hashes if digits], np.uint8), axis=1)


def differences(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(picture of one, picture of other): bits that differ."""
    one, other = one.astype(np.float32), other.astype(np.float32)
    return (one.sum(1)[:, None] + other.sum(1)[None] - 2 * one @ other.T).round().astype(np.int8)


def main(paths: list[Path]) -> None:
    sets = [bits_of([picture_hash(TRANSFORM(image)) for image in images(path)]) for path in paths]
    found = differences(sets[0], sets[-1])
    pairs = found.ravel() if len(sets) > 1 else found[np.triu_indices(len(found), 1)]
    counts = ", ".join(f"{bits}: {int((pairs == bits).sum()):,}" for bits in range(0, 13, 2))
    print(f"{len(pairs):,} pairs; by bits that differ {counts}; at most {MOST} is a near-duplicate")
    some = list(islice(images(paths[0]), CHANGED))
    before = bits_of([picture_hash(TRANSFORM(image)) for image in some])
    for name, change in CHANGES.items():
        after = bits_of([picture_hash(TRANSFORM(change(image))) for image in some])
        print(f"{name}: {int((np.diag(differences(before, after)) <= MOST).sum())} of {len(some)} found")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
