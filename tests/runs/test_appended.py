"""Files to which whole records are appended."""

import pytest
from short_runs import room_in_files

from metarl.runs.appended import AppendedFile


def test_records_are_appended_to_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"one ")
    file = AppendedFile(path)
    file.write(b"two ")
    file.write(b"three")
    assert path.read_bytes() == b"one two three"
    file.sync()
    file.close()


def test_a_record_that_does_not_fit_is_undone_and_the_error_names_the_file(tmp_path):
    file = AppendedFile(tmp_path / "file")
    file.write(b"good")
    with room_in_files(8), pytest.raises(OSError, match="File too large") as caught:
        file.write(b"five and more")
    assert caught.value.filename == str(tmp_path / "file")
    file.write(b"!")
    file.close()
    assert (tmp_path / "file").read_bytes() == b"good!"
