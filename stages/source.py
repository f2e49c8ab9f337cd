"""source: records the state of images and captions outside the repository. Runs every time, in about a second."""

from showtell.core import paths
from showtell.core.files import read_json, write_json
from showtell.core.params import load
from showtell.core.stage import run_stage
from showtell.data.datasets.custom import CustomParams
from showtell.data.datasets.source import DatasetName, DownloadParams, record


def main() -> None:
    dataset = load(DatasetName, alone=True)
    content = record(dataset, load(DownloadParams, alone=True), load(CustomParams, alone=True))
    if not paths.SOURCE.is_file() or read_json(paths.SOURCE) != content:
        write_json(paths.SOURCE, content)


if __name__ == "__main__":
    run_stage(main)
