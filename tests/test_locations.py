"""Errors in a user's code are described with their place; others are not."""

from __future__ import annotations

import json
from pathlib import Path

from metarl.locations import located, user_place


def caught(run: object) -> Exception:
    try:
        run()  # type: ignore[operator] # a function
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_the_last_line_of_user_code_is_named_even_if_a_library_raised(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\ndef go():\n    json.loads('{')\n")
    space: dict[str, object] = {"__name__": "mine"}
    exec(compile(file.read_text(), str(file), "exec"), space)
    error = caught(space["go"])
    assert user_place(error) == "mine.py, line 4"
    assert located(error).startswith("JSONDecodeError: Expecting property name")
    assert located(error).endswith("(mine.py, line 4)")


def test_an_error_outside_of_user_code_has_no_place() -> None:
    space: dict[str, object] = {"__name__": "metarl.ours", "json": json}
    exec(compile("def go(): json.loads('{')", __file__, "exec"), space)
    frames = caught(space["go"]).with_traceback(None)
    assert user_place(frames) == ""
    assert located(ValueError("one\ntwo")) == "ValueError: one"
    assert located(KeyError()) == "KeyError"
