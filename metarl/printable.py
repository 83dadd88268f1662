"""Text that can be printed anywhere: escapes of control characters, and ASCII for what is left."""

from __future__ import annotations

import codecs
import re

__all__ = ["UNENCODABLE", "printable"]

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, except tab and newline
    "\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the direction of writing
    "\u2028\u2029\ud800-\udfff]"  # separators; bytes of file names that are not UTF-8
)
_ASCII = str.maketrans(
    {"−": "-", "–": "-", "—": "-", "…": "...", "×": "x", "÷": "/", "·": "*", "→": "->", "’": "'"}
)
UNENCODABLE = "metarl.plain"
"""Name of the error handler that writes characters which a stream cannot encode in ASCII."""


def printable(text: str) -> str:
    r"""The text with escapes for characters that would change a terminal or the order of reading.

    Escapes also replace bytes of file names that are not UTF-8, which cannot be encoded.

    >>> printable("run\x1b[31m \u202e \udcff")
    'run\\x1b[31m \\u202e \\xff'
    """
    return _HIDDEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte that `os.fsdecode` could not decode
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Minus signs, dashes and the like in ASCII, so that numbers keep their sign; else "?"."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(_ASCII)
    return "".join(letter if letter.isascii() else "?" for letter in text), error.end


codecs.register_error(UNENCODABLE, _in_ascii)
