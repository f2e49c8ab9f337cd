"""train: trains the decoder on stored features of the frozen encoder."""

from showtell.core import paths
from showtell.core.params import load
from showtell.core.precision import device
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.tensor_files import tensors_hash
from showtell.core.workplace import workplace
from showtell.data.batches import CaptionedImages, training_batches
from showtell.data.vocabulary import Vocabulary
from showtell.decoders import DecoderParams, build_decoder
from showtell.encoders.features import load_encoder, open_features
from showtell.generation.bundle import save_model
from showtell.generation.model import Model
from showtell.learning.caption_task import CaptionTask, TrainParams
from showtell.learning.checkpoints import Checkpoints
from showtell.learning.curves import selected_epoch, write_curves
from showtell.learning.loop import fit, seed_weights
from showtell.learning.selection import best_row
from showtell.learning.validation import validation
from showtell.learning.word_vectors import begin_with_word_vectors


def main() -> str | None:
    shape, params = load(DecoderParams), load(TrainParams)
    encoder, transform, precision, detector = load_encoder(paths.ENCODER)
    vocabulary = Vocabulary.load(paths.VOCAB)
    data = {
        split: CaptionedImages(paths.split_json(split), open_features(paths.split_features(split), encoder, transform))
        for split in ("train", "val")
    }
    seed_weights(params.seed)
    decoder = build_decoder(shape, encoder.channels, len(vocabulary))
    begin_with_word_vectors(decoder, shape, vocabulary)
    network = CaptionTask(decoder, params).to(device())
    identity = [vocabulary.hash, tensors_hash(decoder.state_dict()), *(part.fingerprint for part in data.values())]
    with shared_workplace(workplace(__file__, shape, params, identity)) as place:
        validate = validation(network, data["val"], vocabulary, params)
        batches = training_batches(data["train"], params.images_per_update, params.seed, params.captions_per_update)
        history = fit(network, batches, validate, params, params.select, Checkpoints(place))
        if not is_main():
            return None
        model = Model(encoder, decoder, shape, vocabulary, transform, precision, detector)
        save_model(model, paths.TRAIN_MODEL, notes=best_row(history, params.select))
        write_curves("train", history, params.select)
        place.finish()
    return f"the model is in {paths.TRAIN_MODEL}; {selected_epoch(history, params.select)}"


if __name__ == "__main__":
    launch(main, memory="lower train.images_per_update, or raise learning.accumulate (the same update in parts)")
