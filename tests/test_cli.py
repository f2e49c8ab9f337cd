import subprocess
import sys

import pytest

from showtell.commands import cli


def status_of(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    return caught.value.code


def imported_by(*arguments):
    """What a command prints, and the heavy modules that it has imported when it ends."""
    code = (
        "import sys; from showtell.commands import cli\n"
        f"try: cli.main({list(arguments)})\n"
        "finally: print(sorted({'torch', 'numpy', 'PIL', 'matplotlib', 'pydantic', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *printed, modules = done.stdout.splitlines()
    return "\n".join(printed), modules


def test_help_names_every_command_and_imports_nothing_heavy():
    printed, modules = imported_by("--help")
    for name in cli.COMMANDS:
        assert f"\n  {name} " in printed
    assert modules == "[]"


@pytest.mark.parametrize("arguments", [["caption", "--help"], ["caption", "a.jpg", "--beam", "x"], ["demo", "--help"]])
def test_help_and_wrong_options_do_not_wait_for_torch(arguments):
    assert imported_by(*arguments)[1] == "[]"


@pytest.mark.parametrize("name", ["caption", "demo", "import", "score", "tokenize", "compare"])
def test_every_command_explains_itself(name, capsys):
    assert status_of(name, "--help") == 0
    assert f"usage: showtell {name}" in capsys.readouterr().out


def test_a_mistyped_command_suggests_the_nearest(capsys):
    assert status_of("captoin", "a.png") == 2
    assert "did you mean caption?" in capsys.readouterr().err


def test_no_command_prints_the_help(capsys):
    assert status_of() == 2
    assert "commands:" in capsys.readouterr().err


def test_version(capsys):
    assert status_of("--version") == 0
    assert capsys.readouterr().out.startswith("showtell 0.")


def test_errors_are_one_line_and_status_1(tmp_path, capsys):
    assert status_of("caption", str(tmp_path / "a.png"), "--model", str(tmp_path)) == 1
    said = f"error: {tmp_path} holds no model (no config.json); train one with `dvc repro`\n"
    assert tuple(capsys.readouterr()) == ("", said)


@pytest.mark.parametrize("command", ["score", "compare"])
def test_a_negative_seed_is_refused(command, capsys):
    assert status_of(command, "a.json", "b.json", "--seed", "-1") == 1
    assert "--seed -1: must be 0 or more" in capsys.readouterr().err


def test_arguments_of_a_command_may_look_like_the_overview_s(capsys):
    assert status_of("tokenize", "--version") == 2
    assert "unrecognized arguments: --version" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["caption", "a.jpg"], ["describe", "."], ["export", "model", "m.onnx"]])
def test_without_torch_commands_that_need_it_are_one_line(tmp_path, arguments):
    code = f"import sys; sys.modules['torch'] = None; from showtell.commands import cli; cli.main({arguments})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    needs = f"`showtell {arguments[0]}` needs torch, which is not installed here: `make install` in a clone installs"
    assert needs in done.stderr
