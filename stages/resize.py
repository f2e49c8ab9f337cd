"""resize: transforms every picture of every split, and audits the data."""

from showtell.core import paths
from showtell.core.files import write_json
from showtell.core.params import load
from showtell.core.progress import log
from showtell.core.stage import run_stage
from showtell.core.workplace import workplace
from showtell.data.audit import skipped, summarise
from showtell.data.captions import CaptionFile
from showtell.data.datasets.picture_files import Pictures
from showtell.data.near_duplicates import Looks, counted, near_duplicates
from showtell.data.resizing import finish_split, listed, refuse_broken, resize_split, workers
from showtell.data.transform import ResizeParams, Transform
from showtell.data.vocabulary import Vocabulary
from showtell.encoders.encoder_params import EncoderParams, image_statistics


def main() -> str:
    params, encoder = load(ResizeParams), load(EncoderParams)
    # Only the encoder's name and weights matter here, so dvc.yaml lists only those two keys.
    made_with = image_statistics(encoder).filter if params.filter == "auto" else params.filter
    transform = Transform(params.size, params.fit, made_with)
    captions = {split: CaptionFile(paths.split_json(split)) for split in paths.SPLITS}
    images = {split: listed(file.image_ids, file.files) for split, file in captions.items()}
    pictures = Pictures.open(paths.IMAGES_RAW)
    identity = [pictures.fingerprint, *(one.captions for one in images.values())]
    with workplace(__file__, transform.to_dict(), identity) as place:
        with workers(sum(len(one.ids) for one in images.values())) as pool:
            journals = {s: resize_split(s, images[s].files, pictures, transform, place.folder, pool) for s in images}
        refuse_broken(journals, params)
        looks = {s: Looks(one.ids, one.files, (facts.look for facts in journals[s])) for s, one in images.items()}
        pairs = near_duplicates(looks)
        table = summarise(journals, captions, Vocabulary.load(paths.VOCAB)) | counted(pairs, paths.SPLITS)
        write_json(paths.METRICS / "data.json", table)
        write_json(paths.NEAR_DUPLICATES, pairs)
        write_json(paths.SKIPPED, skipped({split: one.ids for split, one in images.items()}, journals))
        for split, one in images.items():
            finish_split(split, paths.split_images(split), one, journals[split], transform, place.folder)
        place.finish()
    pictures.discard_scratch()
    if pairs:
        log(f"resize: {len(pairs)} pictures look like one of another split; {paths.NEAR_DUPLICATES} has them")
    count = sum(len(one.ids) for one in images.values())
    return f"{count:,} pictures of {params.size} x {params.size} pixels are in {paths.IMAGES}"


if __name__ == "__main__":
    run_stage(main)
