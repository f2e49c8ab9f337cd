"""check: params.yaml, whole, and whether its networks can be built, before any stage runs.

DVC clears a stage's old results before it runs the stage: what is refused later costs them.
"""

from showtell.core import paths
from showtell.core.files import write_text
from showtell.core.params import load_all
from showtell.core.stage import run_stage
from showtell.learning.model_check import check_model


def main() -> None:
    check_model(load_all(paths.PARAMS))
    write_text(paths.CHECKED, "params.yaml is valid\n")  # always the same: nothing runs again because of it


if __name__ == "__main__":
    run_stage(main)
