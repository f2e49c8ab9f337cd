"""finetune: decoder and encoder learn on together, from images."""

from showtell import paths
from showtell.batches import CaptionedImages, training_batches
from showtell.captioner import Captioner
from showtell.captioning import CaptionNetwork
from showtell.checkpoints import Checkpoints
from showtell.curves import best_row, write_curves
from showtell.detection import WordDetector, words_to_detect
from showtell.params import load
from showtell.precision import device
from showtell.processes import first, launch, together
from showtell.store import RowReader
from showtell.training import fit, seed_weights
from showtell.validation import validation
from showtell.workplace import workplace


def main() -> None:
    params, detection = load("finetune"), load("detection")
    captioner = Captioner.load(paths.TRAIN_MODEL)
    data = {
        split: CaptionedImages(paths.split_json(split), RowReader(paths.split_images(split), "images"))
        for split in ("train", "val")
    }
    if params.epochs:
        captioner.encoder.train_from(params.trainable_from)
    detector = None
    if params.epochs and params.word_loss:
        seed_weights(params.seed)
        words = words_to_detect(data["train"].entries, detection)
        detector = WordDetector(captioner.encoder, words, len(captioner.vocabulary))
    network = CaptionNetwork(captioner.decoder, params, captioner.encoder, detector).to(device())
    identity = [captioner.hash(), detection, *(part.fingerprint for part in data.values())]
    with together(workplace("finetune", params, identity)) as place:
        validate = validation(network, data["val"], captioner.vocabulary, params)
        batches = training_batches(data["train"], params.images_per_update, params.seed, params.captions_per_update)
        history = fit(network, batches, validate, params, params.select, Checkpoints(place))
        if not first():
            return
        if captioner.encoder.config["output"] == "grid":  # pooled features hold no cells to detect words in
            captioner.detector = detector
        captioner.save(paths.FINETUNE_MODEL, notes=best_row(history, params.select))
        write_curves("finetune", history, params.select)
        place.finish()


if __name__ == "__main__":
    launch(main)
