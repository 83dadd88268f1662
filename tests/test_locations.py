"""Errors in a user's code are described with their place; others are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metarl.locations import describe_error, describe_error_with_traceback, user_place


def caught(run: object) -> Exception:
    try:
        run()  # type: ignore[operator] # a function
    except Exception as error:
        return error.with_traceback(error.__traceback__.tb_next)  # without this function
    raise AssertionError("nothing was raised")


def test_the_last_line_of_user_code_is_named_even_if_a_library_raised(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\ndef go():\n    json.loads('{')\n")
    space: dict[str, object] = {"__name__": "mine"}
    exec(compile(file.read_text(), str(file), "exec"), space)
    error = caught(space["go"])
    assert user_place(error) == "mine.py, line 4"
    assert describe_error(error).startswith("JSONDecodeError: Expecting property name")
    assert describe_error(error).endswith("(mine.py, line 4)")


def test_an_error_outside_of_user_code_has_no_place() -> None:
    space: dict[str, object] = {"__name__": "metarl.ours", "json": json}
    exec(compile("def go(): json.loads('{')", __file__, "exec"), space)
    assert user_place(caught(space["go"])) == ""
    assert describe_error(ValueError("one\ntwo")) == "ValueError: one"
    assert describe_error(KeyError()) == "KeyError"


@pytest.mark.parametrize("folder", ["mine", "ours"])
def test_a_users_program_has_a_place_but_a_program_of_this_package_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setattr("metarl.locations._PROGRAMS", (tmp_path / "ours",))
    file = tmp_path / folder / "program.py"
    file.parent.mkdir()
    file.write_text("def go():\n    {}['cup']\n")
    space: dict[str, object] = {"__name__": "__main__"}
    exec(compile(file.read_text(), str(file), "exec"), space)
    place = "program.py, line 2" if folder == "mine" else ""
    assert user_place(caught(space["go"])) == place


def test_the_traceback_follows_the_line() -> None:
    line, _, rest = describe_error_with_traceback(caught(lambda: json.loads("{"))).partition("\n")
    assert line.startswith("JSONDecodeError: ")
    assert "(test_locations.py, line " in line
    assert rest.startswith("Traceback (most recent call last):\n")
    assert "decoder.py" in rest
