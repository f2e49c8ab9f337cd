"""finetune: trains decoder and encoder together, from images."""

from dataclasses import replace

from showtell.core import paths
from showtell.core.params import load
from showtell.core.precision import device
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.progress import log
from showtell.core.workplace import workplace
from showtell.data.batches import captioned_images, training_batches
from showtell.encoders.detection import DetectionParams, WordDetector, words_to_detect
from showtell.encoders.network import usable_batch_norm
from showtell.generation.bundle import load_model, save_model
from showtell.learning.caption_task import CaptionTask, FinetuneParams
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.curves import selected_epoch, write_curves
from showtell.learning.loop import fit, seed_weights
from showtell.learning.selection import best_row
from showtell.learning.validation import validation


def main() -> str | None:
    params, detection = load(FinetuneParams), load(DetectionParams)
    model = load_model(paths.TRAIN_MODEL)
    data = {split: captioned_images(split) for split in ("train", "val")}
    if params.epochs:
        batch_norm = usable_batch_norm(model.encoder, params.batch_norm, "finetune.batch_norm")
        model.encoder.train_from(params.trainable_from, batch_norm)
    detector = model.detector
    if params.epochs and params.word_loss and detector is None:
        seed_weights(params.seed)
        words = words_to_detect(data["train"].entries.blocks(), len(model.vocabulary), detection)
        detector = WordDetector(model.encoder, words)
    learning = detector if params.word_loss else None
    if params.epochs and detector is not None and learning is None:
        log("finetune: the detector of words stays as it is, while the encoder learns (finetune.word_loss: 0)")
    network = CaptionTask(model.decoder, params, model.encoder, learning).to(device())
    identity = [model.hash(), detection, *(part.fingerprint for part in data.values())]
    with shared_workplace(workplace(__file__, params, identity)) as place:
        validate = validation(network, data["val"], model.vocabulary, params)
        batches = training_batches(data["train"], params.images_per_update, params.seed, params.captions_per_update)
        history = fit(network, batches, validate, params, params.select, Checkpoints(place))
        if not is_main():
            return None
        if model.encoder.gives_grid:  # pooled features have no cells in which words could be detected
            model = replace(model, detector=detector)
        save_model(model, paths.FINETUNE_MODEL, notes=best_row(history, params.select))
        write_curves("finetune", history, params.select)
        place.finish()
    return f"the model is in {paths.FINETUNE_MODEL}; {selected_epoch(history, params.select)}"


if __name__ == "__main__":
    launch(main, memory="lower finetune.images_per_update, or raise learning.accumulate (the same update in parts)")
