"""The folder of exported graphs: `graphs.json` says what they are, so that they run without the student or torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from relgrade.bundle import load_bundle
from relgrade.encoding import PairTemplate, TextTemplate
from relgrade.errors import InvalidInput
from relgrade.grade.cross_encoder import CrossEncoderRuntime
from relgrade.grade.interaction import InteractionRuntime
from relgrade.grade.runtime import Runtime
from relgrade.grade.runtimes import load_runtime
from relgrade.grade.sessions import open_session
from relgrade.pipeline.ledger import read_json, write_json

GRAPHS_NAME = "graphs.json"
TOKENIZER_NAME = "tokenizer.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphsFile:
    """What `graphs.json` says; files are names in its folder."""

    architecture: str
    template: Mapping[str, Any]
    graphs: Mapping[str, str]  # role -> the file that ships
    fp32: Mapping[str, str]  # role -> the file before quantisation
    is_quantised: bool
    operators: Mapping[str, int]  # fused ones, by name: how many
    note: str = ""  # why nothing was fused

    def write(self, folder: Path) -> None:
        """Write `graphs.json` into `folder`."""
        write_json(folder / GRAPHS_NAME, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> "GraphsFile":
        """Inverse of `write`.

        Raises:
            InvalidInput: no such file, or not one of this relgrade.
        """
        try:
            return cls(**read_json(folder / GRAPHS_NAME))
        except TypeError as error:
            raise InvalidInput(f"{folder / GRAPHS_NAME}: fields this relgrade cannot read: {error}") from error


def open_runtime(folder: Path, *, n_threads: int | None = None) -> Runtime:
    """The graphs that ship, run as a grader runs them.

    Args:
        folder: of exported graphs, or a bundle.
        n_threads: sequences read at once; None takes the cores of this process.

    Raises:
        InvalidInput: neither is there.
        BundleError: a graph is missing or damaged.
    """
    if (folder / "bundle.json").is_file():
        return load_runtime(load_bundle(folder), n_threads=n_threads)
    if not (folder / GRAPHS_NAME).is_file():
        raise InvalidInput(f"{folder}: a bundle or a folder of exported graphs was expected, with {GRAPHS_NAME}")
    described = GraphsFile.read(folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_NAME))
    sessions = {role: open_session(folder / name) for role, name in described.graphs.items()}
    if described.architecture == "cross-encoder":
        template = PairTemplate.from_json(described.template)
        return CrossEncoderRuntime(sessions["model"], tokenizer, template=template, n_threads=n_threads)
    if described.architecture == "interaction":
        return InteractionRuntime(
            sessions["encoder"],
            sessions["head"],
            list_head=sessions.get("list_head"),
            tokenizer=tokenizer,
            template=TextTemplate.from_json(described.template),
            n_threads=n_threads,
        )
    raise InvalidInput(f"{folder}: unknown architecture {described.architecture!r}")
