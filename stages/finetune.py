"""finetune: decoder and encoder learn on together, from images."""

from showtell.core import paths
from showtell.core.params import load
from showtell.core.precision import device
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.workplace import workplace
from showtell.data.batches import CaptionedImages, training_batches
from showtell.data.store import RowReader
from showtell.encoders.detection import DetectionParams, WordDetector, words_to_detect
from showtell.encoders.network import usable_batch_norm
from showtell.generation.captioner import Captioner
from showtell.learning.caption_task import CaptionTask, FinetuneParams
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.curves import best_row, told, write_curves
from showtell.learning.loop import fit, seed_weights
from showtell.learning.validation import validation


def main() -> str | None:
    params, detection = load(FinetuneParams), load(DetectionParams)
    captioner = Captioner.load(paths.TRAIN_MODEL)
    data = {
        split: CaptionedImages(paths.split_json(split), RowReader(paths.split_images(split), "images"))
        for split in ("train", "val")
    }
    if params.epochs:
        captioner.encoder.train_from(params.trainable_from, usable_batch_norm(captioner.encoder, params.batch_norm))
    detector = None
    if params.epochs and params.word_loss:
        seed_weights(params.seed)
        words = words_to_detect(data["train"].entries, detection)
        detector = WordDetector(captioner.encoder, words, len(captioner.vocabulary))
    network = CaptionTask(captioner.decoder, params, captioner.encoder, detector).to(device())
    identity = [captioner.hash(), detection, *(part.fingerprint for part in data.values())]
    with shared_workplace(workplace(__file__, params, identity)) as place:
        validate = validation(network, data["val"], captioner.vocabulary, params)
        batches = training_batches(data["train"], params.images_per_update, params.seed, params.captions_per_update)
        history = fit(network, batches, validate, params, params.select, Checkpoints(place))
        if not is_main():
            return None
        if captioner.encoder.gives_grid:  # pooled features hold no cells to detect words in
            captioner.detector = detector
        captioner.save(paths.FINETUNE_MODEL, notes=best_row(history, params.select))
        write_curves("finetune", history, params.select)
        place.finish()
    return f"the model is in {paths.FINETUNE_MODEL}; {told(history, params.select)}"


if __name__ == "__main__":
    launch(main)
