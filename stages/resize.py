"""resize: every picture of every split through the transform, and an audit of what they are like."""

from showtell import paths
from showtell.audit import summarise
from showtell.datasets.pictures import Pictures
from showtell.errors import run
from showtell.files import read_json, write_json
from showtell.images import Transform
from showtell.params import load
from showtell.resizing import captions_fingerprint, finish_split, refuse_broken, resize_split, workers
from showtell.vocabulary import Vocabulary
from showtell.workplace import workplace


def main() -> None:
    params = load("resize")
    transform = Transform(params.size, params.fit)
    entries = {split: read_json(paths.split_json(split)) for split in paths.SPLITS}
    files = {split: [entry["file"] for entry in entries[split]] for split in paths.SPLITS}
    pictures = Pictures.open(paths.IMAGES_RAW)
    identity = [pictures.fingerprint, *map(captions_fingerprint, entries.values())]
    with workplace("resize", transform.to_dict(), identity) as place:
        with workers(pictures, transform, sum(map(len, files.values()))) as pool:
            facts = {s: resize_split(s, files[s], pictures, transform, place.folder, pool) for s in paths.SPLITS}
        refuse_broken(facts, params)
        write_json(paths.METRICS / "data.json", summarise(facts, entries, Vocabulary.load(paths.VOCAB)))
        for split in paths.SPLITS:
            finish_split(split, paths.split_images(split), entries[split], facts[split], transform, place.folder)
        place.finish()
    pictures.discard_scratch()


if __name__ == "__main__":
    run(main)
