"""The ``sam3`` command finds its subcommands, loads only what they need, and turns errors into one paragraph."""

import subprocess
import sys

import pytest

import sam3
from sam3.arguments import CommandParser
from sam3.cli import SUBCOMMANDS, main, usage
from sam3.errors import UserError


def run_sam3(*arguments: str, cwd=None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "sam3", *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_lists_every_subcommand(capsys):
    for arguments in ([], ["--help"], ["-h"], ["help"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out.strip() == usage()
    assert all(f"  {name} " in usage() for name in SUBCOMMANDS)


@pytest.mark.parametrize("spelling", ["--version", "-V", "version"])
def test_version(spelling, capsys):
    assert main([spelling]) == 0
    assert capsys.readouterr().out == f"sam3 {sam3.__version__}\n"


def test_an_unknown_subcommand_lists_the_known_ones():
    with pytest.raises(UserError, match="'predcit' .did you mean 'predict'.*convert, train, predict"):
        main(["predcit"])


def test_errors_are_one_paragraph_and_exit_code_2(repository):
    done = run_sam3("fly", cwd=repository)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: unknown subcommand 'fly'")
    assert len(done.stderr.splitlines()) == 1


def test_the_rest_of_the_arguments_is_handed_on(monkeypatch):
    import types

    handed = []
    module = types.SimpleNamespace(main=lambda arguments: handed.append(arguments) or 3)
    monkeypatch.setattr("sam3.cli.import_module", lambda name: module)
    assert main(["train", "-c", "x", "a=b"]) == 3
    assert handed == [["-c", "x", "a=b"]]


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_explains_itself(name, repository):
    done = run_sam3(name, "--help", cwd=repository)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout.lower()


def test_only_what_is_called_is_loaded(repository):
    program = (
        "import sys; from sam3.cli import main\n"
        "try: main(['convert', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr


def a_parser() -> CommandParser:
    parser = CommandParser("cut")
    parser.add_argument("--score-threshold", type=float)
    parser.add_argument("file", nargs="?")
    return parser


@pytest.mark.parametrize("spelling", ["--score-threshold", "--score_threshold"])
def test_options_are_spelt_with_dashes_or_underscores(spelling):
    assert a_parser().parse_args([spelling, "0.5"]).score_threshold == 0.5
    assert a_parser().parse_args([f"{spelling}=0.5", "a_b"]).file == "a_b"


def test_the_declared_spelling_may_have_underscores():
    parser = CommandParser("cut")
    parser.add_argument("--output_dir")
    assert parser.parse_args(["--output-dir", "a-b"]).output_dir == "a-b"
    assert parser.parse_args(["--output_dir=a-b_c"]).output_dir == "a-b_c"
    assert "--output_dir" in parser.format_help()


def test_values_keep_their_underscores():
    parser = CommandParser("cut")
    parser.add_argument("--name")
    assert parser.parse_args(["--name=best_model_1"]).name == "best_model_1"


def test_a_mistyped_option_names_its_neighbour(capsys):
    with pytest.raises(SystemExit) as stopped:
        a_parser().parse_args(["--score-treshold", "1"])
    assert stopped.value.code == 2
    assert "did you mean --score-threshold?" in capsys.readouterr().err


def test_a_forgotten_quote_is_explained(capsys):
    parser = CommandParser("cut")
    parser.add_argument("--prompt", action="append")
    with pytest.raises(SystemExit):
        parser.parse_args(["--prompt", "red", "car"])
    assert "unexpected argument 'car'; a value of several words needs quotes" in capsys.readouterr().err


def test_options_are_not_abbreviated():
    with pytest.raises(SystemExit):
        a_parser().parse_args(["--score", "1"])


def test_without_arguments_a_command_explains_itself(capsys):
    with pytest.raises(SystemExit) as stopped:
        a_parser().parse_args([])
    assert stopped.value.code == 0
    assert "--score-threshold" in capsys.readouterr().out
