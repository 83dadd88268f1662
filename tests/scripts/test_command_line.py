"""Command lines from a dataclass: what is parsed, and one sentence for every mistake."""

from __future__ import annotations

import importlib
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import tyro

from metarl.envs.simulators.worker_pool import WorkerError
from metarl.finite import NonFiniteError
from metarl.registry import UnknownEntryError
from metarl.scripts.command_line import choose, fail, import_named_modules, option_names, parse, run
from metarl.validation import require_at_least


@dataclass(frozen=True)
class Net:
    """Settings of a net."""

    hidden_sizes: tuple[int, ...] = (4, 4)
    """Hidden layers."""
    rate: float = 0.5
    """Learning rate."""


@dataclass(frozen=True)
class Settings:
    """Settings of a run."""

    out: Path
    """Output folder."""
    net: tyro.conf.OmitArgPrefixes[Net] = field(default_factory=Net)
    num_tasks: int = 3
    """Tasks."""
    limit: int | None = None
    """A bound."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device."""
    resume: bool = False
    """Continue."""

    def __post_init__(self) -> None:
        require_at_least("num_tasks", self.num_tasks, 1)


def parsed(line: str) -> Settings:
    return parse(Settings, line.split(), program="metarl go")


def sentence_of(line: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        parsed(line)
    return str(caught.value)


# What is parsed.


def test_options_become_fields_with_underscores_or_dashes():
    line = "--out a/b --num-tasks 7 --hidden_sizes 8 16 --rate=.25 --limit 2 --device cuda --resume"
    assert parsed(line) == Settings(Path("a/b"), Net((8, 16), 0.25), 7, 2, "cuda", True)


def test_omitted_options_keep_their_defaults():
    assert parsed("--out a") == Settings(Path("a"))
    assert parsed("--out a --no-resume --limit None") == Settings(Path("a"))


def test_the_options_are_the_fields_nested_ones_without_a_prefix():
    assert option_names(Settings) == [
        "--out", "--hidden-sizes", "--rate", "--num-tasks", "--limit", "--device", "--resume",
    ]  # fmt: skip


def test_help_prints_every_option_with_its_documentation_and_exits(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        parsed("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: metarl go" in text
    for name in option_names(Settings):
        assert name in text
    for words in ("Settings of a run.", "Output folder.", "Learning rate.", "A bound."):
        assert words in text


@dataclass(frozen=True)
class Marked:
    """Settings with [red]marks[/red] and a :fire:."""

    name: str = "[b]x[/b]"
    """A [link=x]name[/link] :fire:."""


def test_help_shows_marks_and_emoji_names_as_they_are_written(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        parse(Marked, ["--help"], program="metarl go")
    text = " ".join(capsys.readouterr().out.split())
    for words in ("[red]marks[/red] and a :fire:", "[link=x]name[/link] :fire:", "[b]x[/b]"):
        assert words in text


class Unreadable:
    """A type that no command line can express."""


@dataclass(frozen=True)
class Odd:
    """Settings of an extension whose author chose a wrong type."""

    thing: Unreadable


def test_a_setting_that_no_command_line_can_express_is_one_sentence(capsys):
    with pytest.raises(ValueError, match=r"^metarl go cannot offer the settings of Odd as options"):
        parse(Odd, [], program="metarl go")
    assert capsys.readouterr() == ("", "")


# Mistakes in options.


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("--hiden-sizes 3", "--hiden-sizes; did you mean --hidden-sizes?"),
        ("--num_task=3", "--num_task; did you mean --num-tasks?"),
        ("--resumed", "--resumed; did you mean --resume?"),
        ("--net.rate .1", "--net.rate; did you mean --rate?"),
        ("--zzz", "--zzz; --help lists the options"),
    ],
)
def test_an_unknown_option_is_rejected_with_the_nearest_one(given, hint):
    assert sentence_of(f"--out a {given}") == f"there is no option {hint}"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--out a --num-tasks many", ["--num-tasks", "'many'"]),
        ("--out a --rate fast", ["--rate", "'fast'"]),
        ("--out a --hidden-sizes 4 x", ["--hidden-sizes", "'x'"]),
        ("--out a --limit x", ["--limit", "'x'"]),
        ("--out a --device gpu", ["--device must be one of cpu, cuda", "'gpu'"]),
        ("--out a --num-tasks", ["--num-tasks must be followed by INT"]),
        ("--out --resume", ["--out must be followed by PATH"]),
        ("--out a --resume maybe", ["maybe"]),
        ("--out a stray words", ["stray", "words"]),
        ("--out a --no-num-tasks", ["--no-num-tasks"]),
    ],
)
def test_a_wrong_value_is_rejected_by_naming_the_option_and_the_value(line, words):
    sentence = sentence_of(line)
    assert [word for word in words if word not in sentence] == []


HUGE = 10**26
TOO_LARGE = [
    (f"--num-tasks {HUGE}", f"--num-tasks must be a whole number of at most 64 bits, got '{HUGE}'"),
    (f"--hidden-sizes 4 -{HUGE}", "--hidden-sizes must be a whole number of at most 64 bits, "),
    (f"--limit {HUGE}", "--limit must be a whole number of at most 64 bits or None, got '1000"),
    (f"--num-tasks {2**63}", "--num-tasks must be a whole number of at most 64 bits, got '9223"),
    (f"--num-tasks {'9' * 5000}", f"--num-tasks must be a whole number, got '{'9' * 56}..."),
    ("--rate 1e400", "--rate must be a finite number, got '1e400'"),
    ("--rate nan", "--rate must be a finite number, got 'nan'"),
    ("--rate=-inf", "--rate must be a finite number, got '-inf'"),
]


@pytest.mark.parametrize(("given", "message"), TOO_LARGE, ids=[m[:40] for _, m in TOO_LARGE])
def test_a_number_of_more_than_64_bits_is_rejected(given, message):
    assert sentence_of(f"--out a {given}").startswith(message)


def test_the_largest_number_of_64_bits_is_read():
    assert parsed(f"--out a --num-tasks {2**63 - 1}").num_tasks == 2**63 - 1
    assert parsed("--out a --rate 1e300").net.rate == 1e300


def test_a_missing_required_option_is_named():
    expected = "--out must be given; metarl go --help lists the options"
    assert sentence_of("--num-tasks 2") == sentence_of("") == expected


def test_a_value_out_of_range_is_rejected_with_the_message_of_the_configuration():
    assert sentence_of("--out a --num-tasks 0") == "num_tasks must be 1 or more, got 0"


@pytest.mark.parametrize(("encoding", "width"), [("utf-8", 40), ("utf-8", 200), ("latin-1", 80)])
@pytest.mark.parametrize(
    "line",
    [
        "",
        "--out",
        "--out a --zzz",
        "--out a --num-tasks many",
        "--out a --num-tasks 0",
        "--out a --hidden-sizes 4 x",
        "--out a --limit x",
        "--out a --device gpu",
        "--out a stray",
    ],
)
def test_every_mistake_is_one_line_without_a_frame(monkeypatch, line, encoding, width):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    sentence = sentence_of(line)
    frame = ["\n", "  ", "│", "╭", "─", "---", "helptext", "<class"]
    assert [part for part in frame if part in sentence] == []
    terminal.flush()
    assert terminal.buffer.getvalue() == b""  # the caller prints it


# Subcommands.

AGENTS = {"maml": "gradient steps", "my_rl2": "a [bold]memory[/] :fire:"}


@pytest.mark.parametrize("word", ["my_rl2", "my-rl2"])
def test_the_first_word_selects_a_subcommand(word):
    assert choose("agent", [word, "--seed", "1"], AGENTS, program="metarl go") == "my_rl2"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_without_a_name_the_names_and_descriptions_are_listed(capsys, arguments):
    with pytest.raises(SystemExit, match=r"^0$"):
        choose("agent", arguments, AGENTS, program="metarl go")
    text = " ".join(capsys.readouterr().out.split())
    assert "usage: metarl go [-h] {maml,my-rl2}" in text
    assert "metarl go AGENT --help lists the options of each agent." in text
    assert re.search(r"maml +gradient steps.*my-rl2 +a \[bold\]memory\[/\] :fire:", text)


def test_an_unknown_name_is_rejected_with_the_nearest_one():
    message = "agent must be one of maml, my_rl2, got 'mamml'; did you mean 'maml'"
    with pytest.raises(ValueError, match=message):
        choose("agent", ["mamml"], AGENTS, program="metarl go")


# Modules of a user.


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Writes a module into the working directory; it is unloaded after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write_module(name: str, text: str = "") -> None:
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield write_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    "line", ["--import mine_a go --fast", "go --fast --import=mine_a", "go --import mine_a --fast"]
)
def test_a_named_module_is_imported_and_the_rest_of_the_line_is_left(write, line):
    write("mine_a", "SEEN = True")
    assert import_named_modules(line.split()) == ["go", "--fast"]
    assert sys.modules["mine_a"].SEEN


def test_several_modules_are_imported_in_order_and_packages_too(write):
    write("mine_b", "ORDER = ['mine_b']")
    write("mine_package/__init__")
    write("mine_package/part", "import mine_b; mine_b.ORDER.append('part')")
    assert import_named_modules(["--import", "mine_b", "--import", "mine_package.part"]) == []
    assert sys.modules["mine_b"].ORDER == ["mine_b", "part"]


def test_without_a_module_nothing_is_imported():
    path = list(sys.path)
    assert import_named_modules(["go", "--imports", "x"]) == ["go", "--imports", "x"]
    assert sys.path == path


SEARCHED = "the working directory and the installed packages are searched"
MODULES = [
    ("--import", "--import must be the name of a module, as in an import statement, got ''"),
    ("--import=", "--import must be the name of a module, as in an import statement, got ''"),
    ("--import a/b", "--import must be the name of a module, as in an import statement, got 'a/b'"),
    (
        "--import broken.py",
        "--import must be the name of a module, as in an import .*, got 'broken[.]py'",
    ),
    (
        "--import --fast",
        "--import must be the name of a module, as in an import statement, got '--fast'",
    ),
    (
        "--import no_such",
        f"--import must be the name of an existing module, got 'no_such'; {SEARCHED}",
    ),
    (
        "--import no_such.part.x",
        "--import must be the name of an existing module, got 'no_such.part.x'; ",
    ),
    ("--import empty.part", "--import must be the name of an existing module, got 'empty.part'; "),
    (
        "--import needy",
        "module 'needy' needs a module that is not installed: No module named 'no_such_library'",
    ),
    ("--import broken", "module 'broken' failed: ZeroDivisionError: division by zero"),
    ("--import wrong", "module 'wrong' failed: SyntaxError: "),
]


@pytest.mark.parametrize(("line", "message"), MODULES, ids=[line for line, _ in MODULES])
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(write, line, message):
    write("empty")
    write("needy", "import no_such_library")
    write("broken", "1 / 0")
    write("wrong", "def")
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        import_named_modules(line.split())
    assert "\n" not in str(caught.value)


# How a script ends.


def ends_with(main: Any, monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """The exit code of a script whose command line is `go --fast`."""
    monkeypatch.setattr(sys, "argv", ["go", "--fast"])
    monkeypatch.delenv("METARL_DEBUG", raising=False)
    with pytest.raises(SystemExit) as caught:
        run(main)
    return caught.value.code


def raising(error: BaseException) -> Any:
    def main(_: Sequence[str]) -> None:
        raise error

    return main


def test_a_script_does_not_get_the_import_options(monkeypatch, write):
    write("mine_c", "SEEN = True")
    seen: list[str] = []
    monkeypatch.setattr(sys, "argv", ["go", "--import", "mine_c", "--fast"])
    with pytest.raises(SystemExit, match=r"^0$"):
        run(seen.extend)
    assert seen == ["--fast"]
    assert sys.modules["mine_c"].SEEN


def test_a_script_gets_its_arguments_and_ends_with_code_zero(monkeypatch, capsys):
    seen: list[str] = []
    assert ends_with(seen.extend, monkeypatch) == 0
    assert seen == ["--fast"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (ValueError("seed must be 0 or more, got -1"), 2, "seed must be 0 or more, got -1"),
        (TypeError("space must be a Box"), 2, "space must be a Box"),
        (ImportError("it needs the package x"), 2, "it needs the package x"),
        (PermissionError(13, "Permission denied", "a"), 2, "a: Permission denied"),
        (
            OSError(28, "No space left on device", "a.json"),
            1,
            "a.json could not be written: No space left on device",
        ),
        (
            OSError(28, "No space left on device"),
            1,
            "standard output could not be written: No space left on device",
        ),
        (ValueError("no run in a\x1b[31m\u202e\udcff"), 2, "no run in a\\x1b[31m\\u202e\\xff"),
        (FloatingPointError("the loss is not finite"), 1, "the loss is not finite"),
        (NonFiniteError("a reward must be finite"), 1, "a reward must be finite"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            1,
            "out of memory, use a smaller net or batch: DefaultCPUAllocator: can't allocate memory",
        ),
        (
            RuntimeError("Storage size calculation overflowed with sizes=[1]\nmore"),
            1,
            "out of memory, use a smaller net or batch: "
            "Storage size calculation overflowed with sizes=[1]",
        ),
        (
            WorkerError("worker 1 failed: KeyError: 'cup' (my_env.py, line 3)\nTraceback"),
            1,
            "worker 1 failed: KeyError: 'cup' (my_env.py, line 3) "
            "(METARL_DEBUG=1 shows the traceback)",
        ),
        (
            OverflowError("int too large to convert to float"),
            2,
            "a number is too large: int too large to convert to float",
        ),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(monkeypatch, capsys, error, code, sentence):
    assert ends_with(raising(error), monkeypatch) == code
    captured = capsys.readouterr()
    line = rf"metarl: {re.escape(sentence)}( \(test_command_line\.py, line \d+\))?\n"
    assert re.fullmatch(line, captured.err)
    assert captured.out == ""


@pytest.mark.parametrize("error", [KeyError("speed"), ValueError("no speed")])
def test_an_error_in_the_user_s_own_code_is_one_line_with_its_place(monkeypatch, capsys, error):
    assert ends_with(raising(error), monkeypatch) in (1, 2)
    assert re.fullmatch(
        r"metarl: .*speed.* \(test_command_line\.py, line \d+\)\n", capsys.readouterr().err
    )


def test_a_reader_that_closes_the_pipe_is_no_error(monkeypatch, capsys):
    assert ends_with(raising(BrokenPipeError(32, "Broken pipe")), monkeypatch) == 0
    assert capsys.readouterr().err == ""


def test_characters_that_a_terminal_cannot_encode_are_replaced(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert ends_with(lambda _: print("reward −distance 日"), monkeypatch) == 0
    terminal.flush()
    assert terminal.buffer.getvalue() == b"reward -distance ?\n"


def test_internal_errors_keep_their_traceback(monkeypatch):
    ours: dict[str, Any] = {"__name__": "metarl.ours"}
    exec("def broken(_): raise AssertionError('ours')", ours)
    monkeypatch.setattr(sys, "argv", ["go"])
    with pytest.raises(AssertionError, match="ours"):
        run(ours["broken"])


def test_with_metarl_debug_the_traceback_is_shown(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["go"])
    monkeypatch.setenv("METARL_DEBUG", "1")
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        run(raising(ValueError("seed must be 0 or more, got -1")))


def test_fail_prints_one_line_and_exits(capsys):
    with pytest.raises(SystemExit, match=r"^3$"):
        fail("no", code=3)
    assert capsys.readouterr().err == "metarl: no\n"


def test_an_unknown_name_hints_at_import_unless_it_was_given(monkeypatch, capsys, tmp_path):
    def unknown(_: Any) -> None:
        raise UnknownEntryError("agent must be one of a, b, got 'mine'")

    assert ends_with(unknown, monkeypatch) == 2
    hint = "; names of your own modules need --import MODULE\n"
    assert capsys.readouterr().err.endswith(f"got 'mine'{hint}")
    (tmp_path / "mine_d.py").write_text("", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["go", "--import", "mine_d"])
    with pytest.raises(SystemExit):
        run(unknown)
    assert "--import" not in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error_and_do_not_receive_a_files_content(tmp_path, closed):
    code = (
        "import sys\n"
        "from metarl.scripts.command_line import run\n"
        "def main(arguments):\n"
        "    with open('file', 'w') as file:\n"
        "        print('to the terminal', flush=True)\n"
        "        print('to the terminal', file=sys.stderr, flush=True)\n"
        "        file.write('to the file')\n"
        "run(main)\n"
    )
    (tmp_path / "program.py").write_text(code)
    line = f"{sys.executable} program.py {closed}"
    done = subprocess.run(line, shell=True, cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "to the file"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
@pytest.mark.parametrize("words", ["--version", "list learners", "fewshot --help"])
def test_a_full_standard_output_ends_in_one_sentence(words):
    code = "from metarl.scripts.cli import main; main()"
    line = f"{sys.executable} -c '{code}' {words} > /dev/full"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    sentence = "metarl: standard output could not be written: No space left on device\n"
    assert done.stderr == sentence
