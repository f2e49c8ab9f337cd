"""The check that dvc.lock matches params and code."""

from lock import out_of_step


def test_changed_params_code_and_commands_are_named():
    status = {
        "train": [{"changed deps": {"params.yaml": {"train": "modified"}, "src/showtell/search.py": "modified"}}],
        "evaluate": ["changed command"],
    }
    assert out_of_step(status) == [
        "train: params.yaml: train modified",
        "train: src/showtell/search.py modified",
        "evaluate: changed command",
    ]


def test_missing_outputs_of_a_fresh_clone_are_no_change():
    assert out_of_step({}) == out_of_step({"source": ["always changed"]}) == []
    status = {
        "vocab": [
            {"changed deps": {"data/raw/captions.json": "deleted"}},
            {"changed outs": {"data/vocab.json": "deleted"}},
        ]
    }
    assert out_of_step(status) == []
