"""check: validates all of params.yaml, builds its networks and looks for its files, before any stage runs.

DVC deletes a stage's outputs before it runs the stage: an error found later would cost them.
"""

from showtell.core import paths
from showtell.core.files import write_text
from showtell.core.params import load_all
from showtell.core.stage import run_stage
from showtell.generation.search_params import SearchParams
from showtell.learning.model_check import check_model


def main() -> None:
    params = load_all(paths.PARAMS)
    check_model(params)
    params["evaluate"].check()
    params["sweep"].settings(SearchParams.of(params["beam"], params["search"]))
    write_text(paths.CHECKED, "params.yaml is valid\n")  # constant, so that no stage runs again because of it


if __name__ == "__main__":
    run_stage(main)
