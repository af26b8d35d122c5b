"""What a network's encoder starts from: nothing, a pretraining on the set's own images, or a file.

    "none"      random weights                                                  no `Start`
    "moco"      `pretrain` on the training images of the set, labels unread     in a folder named by its settings
    "cem500k"   the CEM500K checkpoint, a file that the user has                as it is
    a path      any other file that `load_pretrained` reads                     as it is

Images to choose by and to report on are never pretrained on: an encoder that has seen them has learnt from the
test. The pretraining uses all training images, also where only some of their labels are learnt from afterwards.
"""

import json
from pathlib import Path

import torch

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import MembraneSet
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining.encoder_files import file_digest
from emseg.membrane.pretraining.loading import CEM500K_FILE, CEM500K_RECORD, load_cem500k, load_pretrained
from emseg.membrane.pretraining.plan import PretrainingPlan
from emseg.membrane.pretraining.training import ENCODER_FIELDS, PretrainedEncoder, pretrain
from emseg.membrane.training import Start
from emseg.runs.digest import PACKAGE_ROOT, code_tree, digest_of

NONE, MOCO, CEM500K_NAME = "none", "moco", "cem500k"
# What decides the encoder: a change there makes a kept one old.
_CODE = ("membrane/pretraining/*.py", "membrane/networks/*.py", "frequency/resnet.py", "frequency/attention/*.py")


def pretrained_start(
    pretraining: str,
    design: NetworkDesign,
    membrane_set: MembraneSet,
    plan: PretrainingPlan,
    folder: str | Path,
    *,
    file: str | Path = "",
    progress: bool = True,
) -> Start | None:
    """Return what a training of `design` starts from; None for random weights.

    `pretraining` is "none", "moco", "cem500k" with the checkpoint `file`, or the path of another file. With "moco" the
    pretraining by `plan` is run, or taken from a folder below `folder` where it was run before. Give the whole set, not
    the part of it whose labels are used. A file is read at once and tried on an encoder of `design`, so that a training
    does not begin with one that does not fit.
    """
    if pretraining == NONE:
        return None
    if pretraining == MOCO:
        made = pretrain_on_set(design, plan, membrane_set, folder, progress=progress)
        return start_from_file(made.weights, name=MOCO)
    if pretraining == CEM500K_NAME:
        if file == "" or Path(file) == Path():
            raise UsageError(
                "`pretraining_file` must name the CEM500K checkpoint where pretraining is cem500k; got none. Get "
                f"{CEM500K_FILE} from {CEM500K_RECORD} and give its path, or use pretraining='moco'."
            )
        start = Start(CEM500K_NAME, _digest_or_none(file), lambda network: load_cem500k(network.encoder, file))
    else:
        start = start_from_file(Path(pretraining))
    start.load(build_network(design, seed=0))
    return start


def start_from_file(path: Path, *, name: str = "") -> Start:
    """Return the start of a training from a file of a pretrained encoder."""
    if not path.is_file():
        raise InputError(
            f"`pretraining` must be none, moco, cem500k or the path of an encoder's file; there is no {path}. "
            "Check the path."
        )
    return Start(name or path.name, file_digest(path), lambda network: load_pretrained(network, path))


def _digest_or_none(file: str | Path) -> str:
    """Return a file's digest; nothing where there is no file, which the loading then says."""
    return file_digest(Path(file)) if Path(file).is_file() else ""


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
