"""Checkpoints: one safetensors file with the tensors and a JSON header. Loading runs no code.

The header names agent, environment, seed, resolved settings, counters, library versions and a
checksum over every byte of the file. Tensors are grouped by the first part of their names:
"parameters/weight_0", "optimizer/step/weight_0".

Checkpoints hold no state of random generators: every random stream is derived from the seed, its
purpose and the iteration (see `metarl.seeding`), environments keep no state between iterations, and
checkpoints are written between iterations. The counters are therefore enough to continue training
bitwise identically.

Published checkpoints of few-shot learners omit the optimizer, which makes them a third of the size.
Such a learner adapts and predicts identically but cannot be trained further.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metarl.storage.files import write_atomically
from metarl.storage.provenance import library_versions
from metarl.storage.renamed import with_current_names

__all__ = [
    "FORMAT_VERSION",
    "load_checkpoint",
    "read_counter",
    "read_header",
    "save_checkpoint",
    "select_tensors",
    "copy_without_optimizer",
    "holds_optimizer",
]


FORMAT_VERSION = 2
_UNCHECKED_VERSION = 1  # without checksums, and with parameters outside of groups
_NO_CHECKSUM = "0" * 64
_NEEDED: dict[str, type] = {"seed": int, "config": dict, "counters": dict}
_UNREADABLE = (SafetensorError, LookupError, ValueError, TypeError, RuntimeError, AttributeError)


class _Checkpoint(NamedTuple):
    tensors: dict[str, Tensor]
    header: dict[str, Any]


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and header in one step.

    Args:
        path: the file; its folder must exist.
        tensors: tensors by name "group/name", on any device.
        header: JSON values, including `agent`, `environment`, `seed`, `config` and `counters`,
            which `load_checkpoint` requires; versions are added.
    """
    stored = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    whole = {
        "format_version": FORMAT_VERSION,
        "checksum": _NO_CHECKSUM,
        **{k: v for k, v in header.items() if k not in ("format_version", "checksum")},
        "versions": library_versions(),
    }
    content = save(stored, metadata={"metarl": json.dumps(whole)})
    write_atomically(path, content.replace(_NO_CHECKSUM.encode(), _checksum(content).encode(), 1))


def read_header(path: Path) -> dict[str, Any]:
    """The header of a checkpoint, after a check of the whole file.

    Raises:
        ValueError: if the file is missing, damaged, or not a checkpoint of a known format.
    """
    return _read(path).header


def load_checkpoint(
    path: Path, *, agent: str, environment: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, on the CPU, and the header of a checkpoint.

    Args:
        path: the checkpoint.
        agent: required name of the agent.
        environment: required name of the environment or data set.

    Raises:
        ValueError: as `read_header` does, and if agent or environment differ, the header lacks
            seed, settings or counters, or a number is not finite.
    """
    tensors, header = _read(path)
    for kind, wanted in (("agent", agent), ("environment", environment)):
        if header.get(kind) != wanted:
            raise ValueError(
                f"checkpoint {path} must be of {kind} {wanted!r}, it is of {header.get(kind)!r}"
            )
    for key, needed in _NEEDED.items():
        if not isinstance(header.get(key), needed):
            raise ValueError(f"checkpoint {path} has no {key}, so it cannot be used")
    for name, values in tensors.items():
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"checkpoint {path} must hold finite numbers only, {name} does not; use an "
                "earlier checkpoint"
            )
    return tensors, header


def select_tensors(
    path: Path, tensors: Mapping[str, Tensor], group: str, like: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of one group, on the devices of the tensors in `like`.

    Args:
        path: the checkpoint, for error messages.
        tensors: result of `load_checkpoint`.
        group: first part of the names, such as "parameters".
        like: tensors by name without the group, with the required shapes and dtypes.

    Raises:
        ValueError: if a tensor is missing or has another shape or dtype.
    """
    chosen = {}
    for name, wanted in like.items():
        found = tensors.get(f"{group}/{name}")
        if found is None or found.shape != wanted.shape or found.dtype != wanted.dtype:
            held = "nothing" if found is None else f"{found.dtype} {list(found.shape)}"
            raise ValueError(
                f"checkpoint {path} must hold {group}/{name} as {wanted.dtype} "
                f"{list(wanted.shape)}, it holds {held}"
            )
        chosen[name] = found.to(wanted.device)
    return chosen


def read_counter(path: Path, header: Mapping[str, Any], name: str) -> int:
    """A counter in the header of a checkpoint.

    Raises:
        ValueError: if it is missing or not a whole number.
    """
    count = header["counters"].get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(
            f"checkpoint {path} must have a whole number {name} in counters, got {count!r}"
        )
    return count


def _read(path: Path) -> _Checkpoint:
    if not path.is_file():
        raise ValueError(f"checkpoint must be a file, there is none at {path}")
    content = path.read_bytes()
    try:
        header = _header(content)
    except _UNREADABLE as error:
        raise ValueError(f"checkpoint {path} {_fault(content)}") from error
    version = header.get("format_version")
    if version not in (_UNCHECKED_VERSION, FORMAT_VERSION):
        raise ValueError(
            f"checkpoint {path} has format {version!r}, this version reads "
            f"{_UNCHECKED_VERSION} and {FORMAT_VERSION}"
        )
    if version == FORMAT_VERSION:
        _require_checksum(path, content, header.pop("checksum", None))
    try:
        tensors = load(content)
    except _UNREADABLE as error:
        raise ValueError(f"checkpoint {path} {_fault(content)}") from error
    if version == _UNCHECKED_VERSION:
        tensors = {f"parameters/{name}": value for name, value in tensors.items()}
    return _Checkpoint(tensors, header)


def _header(content: bytes) -> dict[str, Any]:
    """The header of this library, a JSON text within the header of safetensors."""
    length = int.from_bytes(content[:8], "little")
    outer = json.loads(content[8 : 8 + length].decode())
    header = json.loads(outer["__metadata__"]["metarl"])
    if not isinstance(header, dict):
        raise TypeError("the header must be a JSON object")
    if "config" in header:
        header["config"] = with_current_names(header.get("agent"), header["config"])
    return header


def _require_checksum(path: Path, content: bytes, stored: object) -> None:
    if isinstance(stored, str) and len(stored) == len(_NO_CHECKSUM) and stored.isascii():
        unsigned = content.replace(stored.encode(), _NO_CHECKSUM.encode(), 1)
        if _checksum(unsigned) == stored:
            return
    raise ValueError(
        f"checkpoint {path} is damaged or was changed: its checksum does not match its content"
    )


def _checksum(content: bytes) -> str:
    """Checksum of a whole file in which the digits of the checksum are zeros."""
    return hashlib.blake2b(content, digest_size=len(_NO_CHECKSUM) // 2).hexdigest()


def _fault(content: bytes) -> str:
    """Description of the error in a file that is not a valid safetensors file."""
    if content.startswith((b"PK\x03\x04", b"\x80")):
        return (
            "is a pickle, as torch.save writes; it is rejected, because loading a pickle can run "
            "arbitrary code: metarl's checkpoints are safetensors files"
        )
    return "is damaged or not a metarl checkpoint"


_LEFT_OUT = "optimizer_left_out"
_OPTIMIZER_GROUP = "optimizer/"


def holds_optimizer(header: Mapping[str, Any]) -> bool:
    """Whether the checkpoint with this header holds the optimizer state that training needs.

    Checkpoints of format 1 do not.
    """
    return header["format_version"] > 1 and not header.get(_LEFT_OUT, False)


def copy_without_optimizer(source: Path, target: Path) -> None:
    """Copy a checkpoint without its optimizer state, and record that in the header.

    Raises:
        ValueError: if the source is not a checkpoint.
    """
    known = read_header(source)
    tensors, header = load_checkpoint(
        source, agent=known["agent"], environment=known["environment"]
    )
    kept = {name: t for name, t in tensors.items() if not name.startswith(_OPTIMIZER_GROUP)}
    save_checkpoint(target, kept, {**header, _LEFT_OUT: True})
