"""A two-class checkpoint becomes one with a single logit, z1 - z0, that other servers can load as a reranker.

Weights are read and written as safetensors; no model is built and pickle is never opened.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from relgrade.errors import InvalidInput, OutputError, UnsafeBundle
from relgrade.student.student_file import STUDENT_FILE_NAME, StudentFile

WEIGHTS_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
CONFIG_NAME = "config.json"

# Where transformers puts the classification head, as the first part of a weight's name. The shape alone would not do:
# a BERT has a table of token types that is also (2, hidden).
HEADS = frozenset({"classifier", "score", "classification_head", "logits_proj"})

_COPIED = frozenset({".json", ".txt", ".model", ".jinja", ".md"})  # tokenizer, template, card; no code, no pickle


def fold_two_logits(folder_in: Path | str, folder_out: Path | str) -> None:
    """Write a one-logit copy of a two-class Hugging Face checkpoint.

    sigmoid(z1 - z0) = softmax(z)[1], so nothing is lost: the last linear layer gets the difference of its two rows.
    Its weights are stored in float32, since the difference of two bfloat16 numbers is seldom one.

    Args:
        folder_in: `config.json` and safetensors, in one file or several; class 1 is the relevant one.
        folder_out: a folder that is not there yet, or is empty; appears whole or not at all.

    Raises:
        InvalidInput: not such a checkpoint: no weights, no head or not of two classes, or one whose two logits are
            independent labels; a damaged file, or an index that names weights that are not there; or `folder_out` is
            a file or has files.
        UnsafeBundle: the weights are there as pickle only.
        OutputError: `folder_out` cannot be made.
    """
    source, target = Path(folder_in), Path(folder_out)
    if target.exists() and not target.is_dir():
        raise InvalidInput(f"{target}: an empty or new folder was expected, this is a file")
    if target.exists() and any(target.iterdir()):
        raise InvalidInput(f"{target}: an empty or new folder was expected, this one has files")
    config = _read_config(source)
    files = _weight_files(source)
    weight_name, bias_name = _find_head(source, files)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError.from_os_error(error, path=target.parent) from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fold-") as folder:
        written = Path(folder) / "folded"
        written.mkdir()
        for path in source.iterdir():
            if path.is_file() and (path.suffix in _COPIED or path.name in {"LICENSE", "NOTICE"}):
                shutil.copyfile(path, written / path.name)
        for name in sorted(set(files.values())):
            _write_shard(source / name, written / name, {weight_name, bias_name})
        _write_json(written / CONFIG_NAME, _fold_config(config))
        if (written / STUDENT_FILE_NAME).exists():  # a student that relgrade trained stays one
            student = StudentFile.read(written)
            replace(student, settings=replace(student.settings, n_labels=1)).write(written)
        if (written / INDEX_NAME).exists():
            _write_json(written / INDEX_NAME, _fold_index(written, files))
        if target.exists():
            target.rmdir()  # empty, as checked; replacing a folder is not portable
        written.replace(target)


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(f"{folder}: a Hugging Face checkpoint was expected, {CONFIG_NAME} is not there") from error
    except ValueError as error:
        raise InvalidInput(f"{folder / CONFIG_NAME}: not JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{folder / CONFIG_NAME}: a JSON object was expected, got {type(config).__name__}")
    if config.get("problem_type") in ("multi_label_classification", "regression"):
        raise InvalidInput(
            f"{folder}: problem_type is {config['problem_type']!r}; only the logits of two classes of which one is "
            "true can be folded into one"
        )
    return config


def _weight_files(folder: Path) -> dict[str, str]:
    """Name of each weight -> the file that holds it."""
    if (folder / INDEX_NAME).is_file():
        files = _read_index(folder)
        for name in sorted(set(files.values())):
            if Path(name).name != name or not (folder / name).is_file():
                raise InvalidInput(f"{folder}: {INDEX_NAME} names {name!r}, which is no file of this folder")
            with _opened(folder / name) as file:
                absent = {weight for weight, place in files.items() if place == name} - set(file.keys())
            if absent:
                raise InvalidInput(
                    f"{folder}: {name} lacks {len(absent)} weights that {INDEX_NAME} looks for there, among them "
                    f"{min(absent)!r}; copy the checkpoint again, whole"
                )
        return files
    if not (folder / WEIGHTS_NAME).is_file():
        if any(folder.glob("*.bin")):
            raise UnsafeBundle(
                f"{folder}: the weights are pickled; save them as safetensors where you trust them: "
                "model.save_pretrained(folder, safe_serialization=True)"
            )
        raise InvalidInput(f"{folder}: {WEIGHTS_NAME} or {INDEX_NAME} was expected, neither is there")
    with _opened(folder / WEIGHTS_NAME) as file:
        return dict.fromkeys(file.keys(), WEIGHTS_NAME)


def _read_index(folder: Path) -> dict[str, str]:
    try:
        index = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{folder / INDEX_NAME}: not JSON: {error}; copy the checkpoint again") from error
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files or not all(isinstance(name, str) for name in files.values()):
        raise InvalidInput(
            f"{folder / INDEX_NAME}: an object with weight_map, from weights to files, was expected, as "
            "save_pretrained writes it; copy the checkpoint again"
        )
    return files


@contextmanager
def _opened(path: Path) -> Iterator[Any]:  # the handle of safetensors, which has no type of its own
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InvalidInput(f"{path}: damaged, or no safetensors file: {error}; copy the checkpoint again") from error


def _find_head(folder: Path, files: Mapping[str, str]) -> tuple[str, str]:
    """Names of the weight and the bias of the last layer; the bias need not be there."""
    found, shapes = [], {}
    for name, file_name in files.items():
        if name.split(".")[0] in HEADS and name.endswith(".weight"):
            with _opened(folder / file_name) as file:
                shapes[name] = tuple(file.get_slice(name).get_shape())
            if len(shapes[name]) == 2 and shapes[name][0] == 2:
                found.append(name)
    if len(found) != 1:
        raise InvalidInput(
            f"{folder}: one head of two classes was expected under {', '.join(sorted(HEADS))}; "
            f"found there: {shapes or 'nothing'}"
        )
    return found[0], found[0].removesuffix("weight") + "bias"


def _write_shard(source: Path, target: Path, head: set[str]) -> None:
    with _opened(source) as file:
        if not head & set(file.keys()):
            shutil.copyfile(source, target)
            return
        metadata = file.metadata() or {"format": "pt"}
    weights = load_file(source)
    save_file({name: _fold(w) if name in head else w for name, w in weights.items()}, target, metadata=metadata)


def _fold(rows: Tensor) -> Tensor:
    """Row 1 minus row 0, shape (2, ...) -> (1, ...), float32."""
    return (rows[1:].double() - rows[:1].double()).to(torch.float32).contiguous()


def _fold_config(config: Mapping[str, Any]) -> dict[str, Any]:
    name = (config.get("id2label") or {}).get("1", "RELEVANT")
    # Servers and pipelines choose the activation by problem_type: with this one a single logit goes through sigmoid,
    # and training goes on with binary cross-entropy; "regression" would give the bare logit and squared error.
    changed = {"id2label": {"0": name}, "label2id": {name: 0}, "problem_type": "multi_label_classification"}
    folded = {**config, **changed}
    if "num_labels" in folded:  # written by hand: transformers itself counts id2label
        folded["num_labels"] = 1
    return folded


def _fold_index(folder: Path, files: Mapping[str, str]) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((folder / INDEX_NAME).read_text(encoding="utf-8"))
    n_bytes = n_weights = 0
    for name in sorted(set(files.values())):
        for weight in load_file(folder / name).values():
            n_bytes += weight.numel() * weight.element_size()
            n_weights += weight.numel()
    metadata = index.get("metadata") or {}
    totals = {"total_size": n_bytes, "total_parameters": n_weights}
    index["metadata"] = {**metadata, **{key: value for key, value in totals.items() if key in metadata}}
    return index


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
