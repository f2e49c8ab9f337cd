"""features: the frozen encoder's features of all train and val images, computed once."""

from showtell.core import paths
from showtell.core.files import move
from showtell.core.processes import is_main, launch, shared_workplace
from showtell.core.workplace import workplace
from showtell.data.store import RowReader
from showtell.encoders.features import announce, extract, feature_attrs, load_encoder
from showtell.encoders.self_check import check_features, some_images


def main() -> str | None:
    stored = load_encoder(paths.ENCODER)
    encoder, precision = stored.encoder, stored.precision
    # `evaluate` encodes the test images itself, also with the fine-tuned encoder.
    images = {split: RowReader(paths.split_images(split), "images") for split in ("train", "val")}
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
    # One process, which uses all cores, so that one network is in memory.
    launch(main, usually=1, memory="lower resize.size, or set encoder.precision to bf16")
