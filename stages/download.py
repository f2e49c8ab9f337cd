"""download: the captions, objects and images of the chosen dataset, in the same format for all datasets."""

from showtell.core import paths
from showtell.core.files import move, read_json
from showtell.core.params import load
from showtell.core.stage import run_stage
from showtell.core.workplace import workplace
from showtell.data.datasets.custom import CustomParams
from showtell.data.datasets.scenes import ScenesParams
from showtell.data.datasets.source import DatasetName, DownloadParams, prepare


def main() -> str:
    dataset, params = load(DatasetName), load(DownloadParams)
    own = {"scenes": load(ScenesParams), "custom": load(CustomParams)}.get(dataset)
    with workplace(__file__, dataset, own and own.model_dump(), read_json(paths.SOURCE)) as place:
        prepare(dataset, place.folder, params, own)
        move(place / "captions.json", paths.CAPTIONS_RAW)
        move(place / "objects.json", paths.OBJECTS)
        move(place / "images", paths.IMAGES_RAW)
        place.finish()
    return f"captions and pictures of {dataset} are in {paths.CAPTIONS_RAW.parent}"


if __name__ == "__main__":
    run_stage(main)
