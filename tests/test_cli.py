"""The command line: help at once, mistakes with a remedy, stages with the paths of dvc.yaml."""

from __future__ import annotations

import ast
import errno
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from darkroom import cli
from darkroom.commands.stages import STAGES
from darkroom.config import dvc_graph
from darkroom.core.command_line import DEBUG, LazyGroup
from darkroom.core.errors import ParamsError, WorkspaceError
from tests.completion import completions
from tests.conftest import ROOT

HEAVY = {"torch", "mlflow", "pandas", "sklearn", "scipy", "matplotlib", "rich", "numpy", "pydantic", "cv2", "pyarrow"}
NOT_UTF8 = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def darkroom(*arguments, cwd=ROOT, **settings):
    return subprocess.run([sys.executable, "-m", "darkroom", *arguments], capture_output=True, text=True, cwd=cwd, **settings)


def commands(group: LazyGroup = cli.group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command, hidden ones too, with its words on the command line."""
    for name in [*group.summaries, *group.hidden_names]:
        command = group.load(name)
        yield (*path, name), command
        if isinstance(command, LazyGroup):
            yield from commands(command, (*path, name))


ALL = dict(commands())


def fails_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `darkroom check` raise an error."""

    def check(**options: object) -> None:
        raise error

    monkeypatch.setattr(ALL["check",], "callback", check)


def test_help_lists_every_command():
    """The help of the group names each stage and each command, in sections."""
    text = darkroom("--help").stdout
    assert all(f"  {name} " in text for name in (*cli.STAGES, *cli.COMMANDS))
    assert darkroom().stdout == text


def test_help_imports_nothing_heavy():
    """`darkroom --help` imports no library but click."""
    code = f"import sys; from darkroom.cli import main; main(['--help']); assert not {HEAVY} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("path", [("--help",), *ALL], ids=" ".join)
def test_every_command_has_a_help(path):
    """`--help` of every command works; flows, their schedule and workers print theirs themselves, with Prefect imported."""
    if path != ("worker",) and (path[0] not in ("flow", "schedule") or len(path) == 1):
        result = CliRunner().invoke(cli.group, [*path, "--help"])
        assert result.exit_code == 0
        assert result.output.startswith("Usage: darkroom")


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_has_a_help(path):
    """Every command says in its help what it does, and so does every option."""
    command = ALL[path]
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.name


def test_summaries_do_not_import_commands():
    """A group's help is written without importing its commands."""
    code = "import sys; from darkroom.cli import main; main(['lab']); assert 'darkroom.commands.lab.images' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["trasfer"], '"transfer"'),
        (["lab", "kernel"], '"kernels"'),
        (["transfer", "vgg16", "--outt", "x"], '"--out"'),
        (["models", "describe", "lenet5", "--channels", "2"], "1, 3"),
        (["completion", "bahs"], '"bash"'),
        (["transfer"], "BACKBONE"),
        (["recipe", "photo"], '"photos"'),
        (["recipe"], "--set"),
        (["recipe", "--set", "nonsense"], "KEY=VALUE"),
        (["ui", "--port", "0"], "--port"),
        (["leaderboard", "--out", "x"], "--out"),
    ],
)
def test_a_mistake_has_exit_code_2_and_no_traceback(arguments, fact, capsys, monkeypatch):
    """An unknown command, option or value is one message that names the nearest word, with a remedy."""
    monkeypatch.chdir(ROOT)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert fact in error
    assert "\n  remedy: " in error
    assert "Traceback" not in error


@pytest.mark.parametrize("arguments", [["check"], ["ingest"], ["leaderboard"], ["recipe", "--set", "transfer.lr=1"], ["repro"]])
def test_the_wrong_folder_is_named(arguments, tmp_path, monkeypatch, capsys):
    """A command outside the project is a mistake with a remedy, and writes nothing."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    assert "remedy:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParamsError("a", "b"), 2),
        (WorkspaceError("a", "b", retryable=True), 75),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 2),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 75),
        (TimeoutError("timed out"), 75),
        (KeyboardInterrupt(), 130),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exit_code_tells_the_kind_of_failure(error, code, monkeypatch):
    """2 is a mistake, 75 may work later, 130 was interrupted; a closed pipe is no failure."""
    fails_with(error, monkeypatch)
    with open(os.devnull, "w") as nowhere:
        monkeypatch.setattr(sys, "stdout", nowhere)  # BrokenPipeError redirects its file descriptor
        assert cli.main(["check"]) == code


def test_an_unforeseen_exception_is_not_hidden(monkeypatch):
    """What is no mistake of the user keeps its traceback."""
    fails_with(ZeroDivisionError(), monkeypatch)
    with pytest.raises(ZeroDivisionError):
        cli.main(["check"])


@pytest.mark.parametrize("arguments", [["--debug", "check"], ["check", "--debug"]])
def test_debug_shows_the_traceback(arguments, monkeypatch, capsys):
    """`--debug`, before or after the command, and DARKROOM_DEBUG=1 print the traceback before the message."""
    fails_with(ParamsError("a", "b"), monkeypatch)
    monkeypatch.delenv(DEBUG, raising=False)
    assert cli.main(arguments) == 2
    text = capsys.readouterr().err
    assert text.startswith("Traceback")
    assert text.endswith("error: a\n  remedy: b\n")
    assert DEBUG not in os.environ
    assert cli.main(["check"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    monkeypatch.setenv(DEBUG, "1")
    assert cli.main(["check"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("no_colour", "coloured"), [("", True), ("1", False)])
def test_colours_respect_no_color(no_colour, coloured):
    """On a terminal the word `error` is red, unless NO_COLOR is set."""
    terminal, child = pty.openpty()
    environment = os.environ | {"NO_COLOR": no_colour, "TERM": "xterm"}
    subprocess.run([sys.executable, "-m", "darkroom", "trasfer"], stdout=child, stderr=child, env=environment, cwd=ROOT)
    os.close(child)
    text = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "there is no command" in text
    assert ("\x1b[" in text) == coloured


def test_a_pipe_has_no_colours():
    """Elsewhere no message is coloured."""
    assert "\x1b[" not in darkroom("trasfer").stderr


def test_a_closed_pipe_is_silent():
    """`darkroom … | head -1` prints no error."""
    command = f'"{sys.executable}" -m darkroom models describe --list | head -1'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "encoding"),
    [
        (["models", "describe", "--list"], "ascii"),
        (["recipe", "--list"], "latin-1"),
        (["--help"], "ascii"),
        (["recipe", "photös"], "ascii"),
        (["recipe", "photös"], "latin-1"),
        (["recipe", "photös"], ""),
    ],
)
def test_a_terminal_that_is_not_utf_8(arguments, encoding):
    """Tables, help and errors are printed where the encoding lacks their characters."""
    environment = NOT_UTF8 | {"PYTHONIOENCODING": encoding}
    done = darkroom(*arguments, env=environment, encoding="utf-8", errors="replace")
    assert done.returncode == (2 if "photös" in arguments else 0)
    assert "Traceback" not in done.stderr
    assert "photos" in done.stdout + done.stderr or "lenet5" in done.stdout


def test_a_refused_stage_puts_its_outputs_back(monkeypatch, capsys):
    """Inside DVC, which removes the outputs of a stage before it runs, they are restored after an error."""
    fails_with(ParamsError("a", "b"), monkeypatch)
    restored = []
    monkeypatch.setattr(dvc_graph, "restore", lambda stage: restored.append(stage) or ["data/ingested/train"])
    monkeypatch.setenv("DVC_STAGE", "dvc.yaml:ingest")
    assert cli.main(["check"]) == 2
    assert restored == ["ingest"]
    assert "data/ingested/train" in capsys.readouterr().err


def test_a_stage_by_hand_takes_its_paths_from_the_graph(monkeypatch):
    """`darkroom transfer vgg16` works on the paths that dvc.yaml gives the stage; an option replaces one."""
    monkeypatch.chdir(ROOT)
    calls = []
    monkeypatch.setitem(sys.modules, "darkroom.stages.transfer", type(sys)("transfer"))
    sys.modules["darkroom.stages.transfer"].run = lambda **paths: calls.append({key: str(path) for key, path in paths.items()})
    assert cli.main(["transfer", "vgg16", "--cost", "cost.json"]) == 0
    paths = {"embedded": "data/embedded/vgg16", "out": "models/transfer/vgg16", "cost": "cost.json"}
    assert calls == [{"name": "vgg16", **paths}]


@pytest.mark.parametrize("stage", STAGES)
def test_stages_are_declared_as_they_are(stage, monkeypatch):
    """A stage's command, its function and its command in dvc.yaml have the same options."""
    monkeypatch.chdir(ROOT)
    tree = ast.parse((ROOT / f"src/darkroom/stages/{stage}.py").read_text(encoding="utf-8"))  # importing it may import torch
    (run,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "run")
    parameters = {argument.arg for argument in run.args.args}
    assert set(dvc_graph.command_options(stage, "x")) == parameters - {"name"} == set(STAGES[stage].options)
    assert bool(STAGES[stage].argument) == ("name" in parameters)


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["tra"], "transfer"),
        (["transfer", ""], "vgg11_bn"),
        (["transfer", "vgg11_bn", "--ou"], "--out"),
        (["fetch", ""], "digits"),
        (["recipe", "pho"], "photos"),
        (["recipe", "--weights", ""], "imagenet"),
        (["recipe", "--set", "augment.v"], "augment.views="),
        (["study", "dep"], "depth"),
        (["compare", "--stage", "transfer@"], "transfer@vgg11_bn"),
        (["models", "describe", "lenet"], "lenet5"),
        (["models", "describe", "lenet5", "--channels", ""], "3"),
        (["predict", "--model", "champ"], "champion"),
        (["promote", ""], "challenger"),
        (["lab", "fea"], "feature-maps"),
        (["lab", "augmentations", "--policy", "str"], "strong"),
        (["lab", "receptive-field", "lenet"], "lenet5"),
        (["flow", "ret"], "retrain"),
        (["completion", "z"], "zsh"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_tab_key_completes_every_kind_of_value(words, value, monkeypatch):
    """Commands, options, and the values of arguments and options are completed."""
    monkeypatch.chdir(ROOT)
    assert value in completions(*words)


def test_checkpoint_folders_are_completed(tmp_path, monkeypatch):
    """A model may be a folder below models/ that holds a checkpoint."""
    (tmp_path / "models/transfer/vgg16").mkdir(parents=True)
    (tmp_path / "models/transfer/vgg16/model.json").touch()
    monkeypatch.chdir(tmp_path)
    assert completions("predict", "--model", "models") == ["models/transfer/vgg16"]


def test_completion_outside_a_project_is_silent(tmp_path, monkeypatch):
    """Without params.yaml there is nothing to complete, and no error."""
    monkeypatch.chdir(tmp_path)
    assert completions("transfer", "") == completions("recipe", "--set", "t") == []


@pytest.mark.parametrize(
    "line", ["predict --model ", "study ", "models describe ", "recipe --set ", "monitor --model ", "lab filters "]
)
def test_completion_imports_no_torch_and_no_mlflow(line):
    """The tab key waits for neither torch nor MLflow."""
    words = line.split(" ")
    code = f"import sys; from tests.completion import completions; assert completions(*{words!r}); "
    code += "assert not {'torch', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell, capfd):
    """`darkroom completion SHELL` prints a script, which asks darkroom for what it completes."""
    assert cli.main(["completion", shell]) == 0
    assert f"_DARKROOM_COMPLETE={shell}_complete" in capfd.readouterr().out
    words = {"COMP_WORDS": "darkroom tra", "COMP_CWORD": "1" if shell != "fish" else "tra"}
    environment = os.environ | {"_DARKROOM_COMPLETE": f"{shell}_complete", **words}
    assert "transfer" in darkroom(env=environment).stdout


def test_a_folder_that_has_been_removed_is_a_mistake(tmp_path, monkeypatch, capsys):
    """A command in a folder that is not there any more, as that of a removed worktree, says so; help needs none."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert cli.main(["check"]) == 2
    assert "the folder that this command runs in is not there any more" in capsys.readouterr().err
    assert cli.main(["check", "--help"]) == 0
