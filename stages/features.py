"""features: what the frozen encoder sees in every image, computed once. Without weights, it first learns words."""

from showtell import paths
from showtell.batches import CaptionedImages
from showtell.checkpoints import Checkpoints
from showtell.curves import write_curves
from showtell.encoders import build_encoder
from showtell.features import announce, encoder_transform, extract, save_encoder
from showtell.files import move
from showtell.params import load
from showtell.pretraining import pretrain
from showtell.processes import first, launch, together
from showtell.store import RowReader
from showtell.vocabulary import Vocabulary
from showtell.workplace import workplace


def main() -> None:
    params, pretraining, words = load("encoder"), load("pretrain"), load("detection")
    images = {split: RowReader(paths.split_images(split), "images") for split in paths.SPLITS}
    transform = encoder_transform(images["train"])
    encoder = build_encoder(params, transform.size, pretraining.seed)
    vocabulary = Vocabulary.load(paths.VOCAB)
    contents = [reader.attrs["content"] for reader in images.values()]
    identity = [params, pretraining, words, encoder.hash(), contents, vocabulary.hash]
    with together(workplace("features", *identity)) as place:
        announce(encoder, images, place)
        history = []
        if params.weights == "none" and pretraining.enabled:
            data = {split: CaptionedImages(paths.split_json(split), images[split]) for split in ("train", "val")}
            history = pretrain(encoder, data, len(vocabulary), words, pretraining, Checkpoints(place))
        for split, reader in images.items():
            extract(encoder, reader, place / f"{split}.h5", params.precision)
        if not first():
            return
        for split in images:
            move(place / f"{split}.h5", paths.split_features(split))
        save_encoder(place / "encoder", encoder, transform, params.precision)
        move(place / "encoder", paths.ENCODER)
        write_curves("features", history, select="val_f1")
        place.finish()


if __name__ == "__main__":
    launch(main, usually=1)  # an encoder from nothing learns better when batch norm sees all images of an update
