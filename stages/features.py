"""features: what the frozen encoder sees in every image that is learnt from or validated on, computed once."""

from showtell.core import paths
from showtell.core.files import move
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.workplace import workplace
from showtell.data.store import RowReader
from showtell.encoders.features import announce, extract, feature_attrs, load_encoder
from showtell.encoders.self_check import check_features, some_images

SPLITS = ("train", "val")  # `evaluate` encodes the test images itself, as it does with the encoder that learnt on


def main() -> str | None:
    encoder, _, precision = load_encoder(paths.ENCODER)
    images = {split: RowReader(paths.split_images(split), "images") for split in SPLITS}
    identity = [feature_attrs(encoder, store) for store in images.values()]
    with shared_workplace(workplace(__file__, precision, identity)) as place:
        announce(encoder, images, place)
        check_features(encoder, some_images(images["train"]), precision)
        for split, store in images.items():
            extract(encoder, store, place / f"{split}.h5", precision)
        if not is_main():
            return None
        for split in images:
            move(place / f"{split}.h5", paths.split_features(split))
        place.finish()
    return f"features of {sum(map(len, images.values())):,} images are in {paths.FEATURES}"


if __name__ == "__main__":
    # One process: with all cores it holds one network.
    launch(main, usually=1, memory="lower resize.size, or set encoder.precision to bf16")
