"""What a network's encoder starts from: nothing, a pretraining on the set's own images, or a file.

    "none"      random weights                                                  no `Start`
    "moco"      `pretrain` on the training images of the set, labels unread     in a folder named by its settings
    "cem500k"   the CEM500K checkpoint, a file that the user has                as it is
    a path      any other file that `load_pretrained` reads                     as it is

Whatever the file, it is loaded once into a network of the design before anything long begins, and the start keeps what
was loaded. The training that begins later takes that file and no other: its SHA-256 is held to.

Images to choose by and to report on are never pretrained on: an encoder that has seen them has learnt from the
test. The pretraining uses all training images, also where only some of their labels are learnt from afterwards.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import MembraneSet
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining.encoder_files import file_digest, require_digest
from emseg.membrane.pretraining.loading import CEM500K_FILE, CEM500K_RECORD, LoadReport, load_cem500k, load_pretrained
from emseg.membrane.pretraining.plan import PretrainingPlan
from emseg.membrane.pretraining.training import ENCODER_FIELDS, PretrainedEncoder, pretrain
from emseg.membrane.training import Start
from emseg.runs.digest import PACKAGE_ROOT, code_tree, digest_of

NONE, MOCO, CEM500K_NAME = "none", "moco", "cem500k"
# What decides the encoder: a change there makes a kept one old.
_CODE = ("membrane/pretraining/*.py", "membrane/networks/*.py", "frequency/resnet.py", "frequency/attention/*.py")


@dataclass(frozen=True)
class FileStart(Start):
    """A start from a file; `report` says what of the encoder was loaded from it when it was tried."""

    report: LoadReport


def pretrained_start(
    pretraining: str,
    design: NetworkDesign,
    membrane_set: MembraneSet,
    plan: PretrainingPlan,
    folder: str | Path,
    *,
    file: str | Path = "",
    sha256: str = "",
    progress: bool = True,
) -> FileStart | None:
    """Return what a training of `design` starts from; None for random weights.

    `pretraining` is "none", "moco", "cem500k" with the checkpoint `file`, or the path of another file. With "moco" the
    pretraining by `plan` is run, or taken from a folder below `folder` where it was run before. Give the whole set, not
    the part of it whose labels are used. A file is read at once and tried on an encoder of `design`, so that a training
    does not begin with one that does not fit; with `sha256` it must have that digest. A pretraining that is run here
    and random weights are no file of the user's: there `sha256` is not looked at.
    """
    if pretraining == NONE:
        return None
    if pretraining == MOCO:
        made = pretrain_on_set(design, plan, membrane_set, folder, progress=progress)
        start = start_from_file(made.weights, name=MOCO)
    elif pretraining == CEM500K_NAME:
        start = _cem500k_start(file, sha256)
    else:
        start = start_from_file(Path(pretraining), sha256=sha256)
    report = start.load(build_network(design, seed=0))
    assert isinstance(report, LoadReport)
    return FileStart(start.name, report.sha256, start.load, report)


def _cem500k_start(file: str | Path, sha256: str) -> Start:
    if file == "" or Path(file) == Path():
        raise UsageError(
            "`pretraining_file` must name the CEM500K checkpoint where pretraining is cem500k; got none. Get "
            f"{CEM500K_FILE} from {CEM500K_RECORD} and give its path, or use pretraining='moco'."
        )
    digest = _required_digest(Path(file), sha256) if Path(file).is_file() else ""  # that none is there, loading says
    return Start(CEM500K_NAME, digest, lambda network: load_cem500k(network.encoder, file, sha256=digest or None))


def start_from_file(path: Path, *, name: str = "", sha256: str = "") -> Start:
    """Return the start of a training from a file of a pretrained encoder, which must have the digest, if one is given.

    What is loaded later is the file as it is now: one that has changed by then is refused.
    """
    if not path.is_file():
        raise InputError(
            f"`pretraining` must be none, moco, cem500k or the path of an encoder's file; there is no {path}. "
            "Check the path."
        )
    digest = _required_digest(path, sha256)
    return Start(name or path.name, digest, lambda network: load_pretrained(network, path, sha256=digest))


def _required_digest(path: Path, sha256: str) -> str:
    """Return a file's digest, which must be `sha256` where that is given."""
    digest = file_digest(path)
    if sha256:
        require_digest(path, digest, sha256)
    return digest


def pretrain_on_set(
    design: NetworkDesign,
    plan: PretrainingPlan,
    membrane_set: MembraneSet,
    folder: str | Path,
    *,
    progress: bool = True,
) -> PretrainedEncoder:
    """Pretrain the encoder of `design` on a set's training images, in a folder below `folder` of its own."""
    work_dir = Path(folder) / work_name(design, plan, membrane_set)
    return pretrain(design, plan, membrane_set.train, work_dir, fingerprint=membrane_set.fingerprint, progress=progress)


def work_name(design: NetworkDesign, plan: PretrainingPlan, membrane_set: MembraneSet) -> str:
    """Return a name that says the pretraining and ends in a digest of all that decides the encoder."""
    files = sorted({path for pattern in _CODE for path in PACKAGE_ROOT.glob(pattern)})
    code = digest_of(*(code_tree(path.read_text(encoding="utf-8")) for path in files))
    encoder = {name: value for name, value in design.to_dict().items() if name in ENCODER_FIELDS}
    settings = json.dumps(
        [encoder, plan.settings(), membrane_set.fingerprint, torch.__version__], sort_keys=True, default=list
    )
    return f"moco-{design.encoder}-seed{plan.seed}-{digest_of(code, settings)[:10]}"
