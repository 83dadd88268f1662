"""Checkpoints: one safetensors file with the tensors and a JSON header. Loading runs no code.

The header names agent, environment, seed, resolved settings, counters, library versions and a
checksum over every byte of the file. Tensors are grouped by the first part of their names:
"parameters/weight_0", "optimizer/step/weight_0".

There is no state of random generators in it, on purpose: every stream is derived from the seed,
its purpose and the iteration (see `metarl.seeding`), no environment lives from one iteration to
the next with a state that counts, and checkpoints are taken between iterations. So the counters
are all that is needed to go on to the same bit.

Checkpoints of few-shot learners without their optimiser: a third of the size.

A learner loaded from one adapts and predicts as it did; it cannot be trained on to the same bit.
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
_UNCHECKED_VERSION = 1  # had no checksum, and parameters without a group
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
        tensors: by name, any device; names are "group/name".
        header: what JSON can hold: `agent`, `environment`, `seed`, `config` and `counters`, which
            `load_checkpoint` asks for; the versions are added.
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
    """The header of a checkpoint, whose every byte has been checked.

    Raises:
        ValueError: if the file is missing, damaged, or no checkpoint of a known format.
    """
    return _read(path).header


def load_checkpoint(
    path: Path, *, agent: str, environment: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors on the CPU, and the header, of a checkpoint of this agent and environment.

    Raises:
        ValueError: as `read_header`, and if agent or environment differ, the header lacks seed,
            settings or counters, or a number is not finite.
    """
    tensors, header = _read(path)
    for kind, wanted in (("agent", agent), ("environment", environment)):
        if header.get(kind) != wanted:
            raise ValueError(
                f"checkpoint {path} must be of {kind} {wanted!r}, it is of {header.get(kind)!r}"
            )
    for key, needed in _NEEDED.items():
        if not isinstance(header.get(key), needed):
            raise ValueError(f"checkpoint {path} does not say its {key}, so it cannot be used")
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
    """The tensors of one group, on the devices of those whose place they take.

    Args:
        path: the checkpoint, for messages.
        tensors: what `load_checkpoint` gave.
        group: the first part of the names, such as "parameters".
        like: tensors by name without the group, whose shapes and types are needed.

    Raises:
        ValueError: if one is missing or of another shape or type.
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
    """A counter of a checkpoint's header.

    Raises:
        ValueError: if it is missing or no whole number.
    """
    count = header["counters"].get(name)
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"checkpoint {path} must count {name}, it says {count!r}")
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
    """Our JSON text in the JSON text that begins a safetensors file behind its length."""
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
        f"checkpoint {path} is damaged or was altered: its checksum does not fit its content"
    )


def _checksum(content: bytes) -> str:
    """Of a whole file in which the checksum's own place holds zeros."""
    return hashlib.blake2b(content, digest_size=len(_NO_CHECKSUM) // 2).hexdigest()


def _fault(content: bytes) -> str:
    """What is wrong with a file that does not read as safetensors."""
    if content.startswith((b"PK\x03\x04", b"\x80")):
        return (
            "is a pickle, as torch.save writes; loading one can run any code, so it is refused: "
            "metarl's checkpoints are safetensors files"
        )
    return "is damaged or not a metarl checkpoint"


_LEFT_OUT = "optimizer_left_out"
_GROUP = "optimizer/"


def holds_optimizer(header: Mapping[str, Any]) -> bool:
    """Whether training can go on from the checkpoint of this header.

    Those of format 1 never held an optimiser.
    """
    return header["format_version"] > 1 and not header.get(_LEFT_OUT, False)


def copy_without_optimizer(source: Path, target: Path) -> None:
    """Write a checkpoint anew without its optimiser; the header says so.

    Raises:
        ValueError: if the source is no checkpoint.
    """
    known = read_header(source)
    tensors, header = load_checkpoint(
        source, agent=known["agent"], environment=known["environment"]
    )
    kept = {name: t for name, t in tensors.items() if not name.startswith(_GROUP)}
    save_checkpoint(target, kept, {**header, _LEFT_OUT: True})
