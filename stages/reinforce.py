"""reinforce: trains the decoder on rewards of captions that it samples; 0 epochs pass the model on unchanged."""

from showtell.core import paths
from showtell.core.files import read_json
from showtell.core.params import load
from showtell.core.precision import device
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.progress import log
from showtell.core.workplace import workplace
from showtell.data.batches import CaptionedImages, training_batches
from showtell.data.store import MirroredImages, RowReader
from showtell.encoders.features import features_of
from showtell.generation.bundle import hand_on, load_model, save_model
from showtell.generation.neighbours import nearest_others
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.curves import selected_epoch, write_curves
from showtell.learning.loop import fit
from showtell.learning.reinforcement import ReinforceParams, ReinforceTask, concerns, reinforced_validation
from showtell.learning.rewards import Rewards
from showtell.learning.selection import best_row
from showtell.learning.validation import validation
from showtell.metrics.annotations import Annotations


def main() -> str | None:
    params = load(ReinforceParams)
    if not params.epochs:
        if is_main():
            hand_on(paths.FINETUNE_MODEL, paths.REINFORCE_MODEL)
            write_curves("reinforce", [], params.select)
        return f"the model in {paths.REINFORCE_MODEL} is the fine-tuned one (0 epochs)"
    model = load_model(paths.FINETUNE_MODEL)
    images = {split: RowReader(paths.split_images(split), "images") for split in ("train", "val")}
    content = [CaptionedImages(paths.split_json(split), reader).fingerprint for split, reader in images.items()]
    objects = read_json(paths.OBJECTS) if params.weights.needs_objects else {}
    with shared_workplace(workplace(__file__, params, model.hash(), content, objects)) as place:
        stores = images | ({"mirrored": MirroredImages(paths.split_images("train"))} if params.flip else {})
        stored = {split: paths.split_features(split) for split in images}  # by the same encoder without fine-tuning
        features = features_of(stores, model.encoder, model.precision, stored, place)
        train = CaptionedImages(paths.split_json("train"), features["train"], features.get("mirrored"))
        val = CaptionedImages(paths.split_json("val"), features["val"])
        similar = nearest_others(features["train"]) if params.consensus else None
        rewards = Rewards(train.entries, model.vocabulary, params.weights, Annotations.of(objects), similar)
        longest = int(train.longest().max()) - 1
        task = ReinforceTask(model.decoder, params, rewards, model.vocabulary, longest).to(device())
        validate = reinforced_validation(task, validation(task, val, model.vocabulary, params))
        batches = training_batches(train, params.images_per_update, params.seed, params.captions_per_update)
        history = fit(task, batches, validate, params, params.select, Checkpoints(place), judge_first=True)
        if not is_main():
            return None
        for concern in concerns(best_row(history, params.select), train.entries.blocks(), params.samples):
            log(f"reinforce: {concern}")
        save_model(model, paths.REINFORCE_MODEL, notes=best_row(history, params.select))
        write_curves("reinforce", history, params.select)
        place.finish()
    return f"the model is in {paths.REINFORCE_MODEL}; {selected_epoch(history, params.select)}"


if __name__ == "__main__":
    launch(main, memory="raise learning.accumulate (the same update in parts), or lower reinforce.images_per_update")
