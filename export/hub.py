"""A model on the Hugging Face Hub → the folder of its snapshot in the user's cache.

The Hub's own client finds, downloads and caches, and reads its own settings: `HF_HOME`,
`HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..errors import CheckpointError, MissingExtraError
from . import families
from .checkpoint import INDEX, Checkpoint
from .quiet import quiet

ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>.+))?", re.ASCII)
DESCRIPTIONS = (INDEX, "*/*.json", "tokenizer/*")
WEIGHTS = tuple(
    f"*/{stem}{part}.safetensors"
    for stem in ("model", "diffusion_pytorch_model")
    for part in ("", "-?????-of-?????")
)
"""Not those of variants, as `model.fp16.safetensors`: export reads none."""


@dataclass(frozen=True)
class HubModel:
    """A model on the Hub.

    Attributes:
        name: organisation and repository, `Wan-AI/Wan2.1-T2V-1.3B-Diffusers`.
        revision: a branch, a tag or a commit; none is the main branch.
    """

    name: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The model of an id, `org/name` or `org/name@revision`; of another text none."""
        match = ID.fullmatch(text)
        return cls(match["name"], match["revision"]) if match else None

    def __str__(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"


def fetch(model: HubModel, report: Callable[[str], None]) -> Path:
    """Bring what export reads of a model into the Hub's cache, and give the snapshot's folder.

    Its JSON comes first: what cannot be exported is refused before gigabytes are on their way.

    Raises:
        CheckpointError: the Hub or its cache does not have the model, or it cannot be exported.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    report(f"looking for {model} on the Hub")
    folder = download(model, DESCRIPTIONS)
    with quiet():
        checkpoint = Checkpoint.open(folder)
        families.find(checkpoint).check(checkpoint)
    pinned = HubModel(model.name, folder.name)
    report(f"fetching {pinned}")
    return download(pinned, (*DESCRIPTIONS, *WEIGHTS))


def download(model: HubModel, patterns: Sequence[str]) -> Path:
    """The folder of a snapshot that has all the model's files of these patterns.

    The client's threads end only with the file they are at: it runs in a thread of its own, so that
    an interruption need not wait for it.

    Raises:
        CheckpointError: says what the Hub, its cache or the network lacks.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise MissingExtraError("huggingface_hub", "export") from None
    thread = ThreadPoolExecutor(1)
    try:
        job = thread.submit(
            snapshot_download, model.name, revision=model.revision, allow_patterns=list(patterns)
        )
        return Path(job.result())
    except Exception as error:  # the client's, of its HTTP library and of the system
        raise CheckpointError(_explain(error, model)) from error
    finally:
        thread.shutdown(wait=False)


def _explain(error: Exception, model: HubModel) -> str:
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{model.name}"
    match error:
        case errors.GatedRepoError():
            return f"{model} wants its terms accepted: do so at {page}, then: hf auth login"
        case errors.RepositoryNotFoundError():
            return (
                f"{model} is neither a folder nor a model on the Hub ({page}); "
                "if it is a private one: hf auth login"
            )
        case errors.RevisionNotFoundError():
            return f"{model.name} has no revision {model.revision!r}; see {page}"
        case errors.LocalEntryNotFoundError():
            return f"{model} is no folder, and not all of it is in the Hub's cache; {_why(error)}"
    return f"{model} cannot be downloaded: {error}"


def _why(error: Exception) -> str:
    """Why the Hub was not asked."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error.__cause__, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE forbids to download it: unset that"
    return f"the Hub cannot be reached ({error.__cause__}): check the connection"
