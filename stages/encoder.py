"""encoder: the image encoder, with given weights or pretrained on word detection from the captions."""

from showtell.core import paths
from showtell.core.files import move
from showtell.core.params import load
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.workplace import workplace
from showtell.data.batches import CaptionedImages
from showtell.data.store import RowReader
from showtell.data.vocabulary import Vocabulary
from showtell.encoders.detection import DetectionParams
from showtell.encoders.encoder_params import EncoderParams, say_differences
from showtell.encoders.features import StoredEncoder, encoder_transform, save_encoder
from showtell.encoders.network import build_encoder
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.curves import selected_epoch, write_curves
from showtell.learning.pretraining import PretrainParams, pretrain


def main() -> str | None:
    params, pretraining, words = load(EncoderParams), load(PretrainParams), load(DetectionParams)
    images = {split: RowReader(paths.split_images(split), "images") for split in ("train", "val")}
    transform = encoder_transform(images["train"])
    say_differences(params, transform)
    encoder = build_encoder(params, transform.size, pretraining.seed)
    vocabulary = Vocabulary.load(paths.VOCAB)
    learns, data = pretraining.applies_to(params.weights), {}
    if learns:
        data = {split: CaptionedImages(paths.split_json(split), store) for split, store in images.items()}
    contents = [part.fingerprint for part in data.values()] or [store.attrs["content"] for store in images.values()]
    identity = [params, pretraining, words, encoder.hash(), contents, vocabulary.hash]
    with shared_workplace(workplace(__file__, *identity)) as place:
        history, detector = (
            pretrain(encoder, data, len(vocabulary), words, pretraining, Checkpoints(place)) if learns else ([], None)
        )
        if not is_main():
            return None
        usable = detector if encoder.gives_grid else None  # pooled features have no cells to detect words in
        save_encoder(place / "encoder", StoredEncoder(encoder, transform, params.precision, usable))
        move(place / "encoder", paths.ENCODER)
        write_curves("encoder", history, select="val_f1")
        place.finish()
    learnt = f"; of learning words {selected_epoch(history, 'val_f1')}" if history else ""
    return f"the encoder is in {paths.ENCODER}{learnt}"


if __name__ == "__main__":
    # One process: pretraining gives better results with batch statistics over all images of an update.
    launch(main, usually=1, memory="lower pretrain.images_per_update, or raise pretrain.accumulate (the same update)")
