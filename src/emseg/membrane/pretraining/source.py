"""What a network's encoder starts from: nothing, a pretraining on the set's own images, or a file.

    "none"    random weights                                                          no `Start`
    "moco"    `pretrain` on the training images of the set, labels unread             in a folder named by its settings
    a path    any file that `load_pretrained` reads, such as the CEM500K checkpoint   as it is

Images to choose by and to report on are never pretrained on: an encoder that has seen them has learnt from the
test. The pretraining uses all training images, also where only some of their labels are learnt from afterwards.
"""

import json
from pathlib import Path

import torch

from emseg.errors import InputError
from emseg.membrane.dataset import MembraneSet
from emseg.membrane.networks import NetworkDesign
from emseg.membrane.pretraining.encoder_files import file_digest
from emseg.membrane.pretraining.loading import load_pretrained
from emseg.membrane.pretraining.plan import PretrainingPlan
from emseg.membrane.pretraining.training import ENCODER_FIELDS, PretrainedEncoder, pretrain
from emseg.membrane.training import Start
from emseg.runs.digest import PACKAGE_ROOT, code_tree, digest_of

NONE, MOCO = "none", "moco"
# What decides the encoder: a change there makes a kept one old.
_CODE = ("membrane/pretraining/*.py", "membrane/networks/*.py", "frequency/resnet.py", "frequency/attention/*.py")


def pretrained_start(
    pretraining: str,
    design: NetworkDesign,
    membrane_set: MembraneSet,
    plan: PretrainingPlan,
    folder: str | Path,
    *,
    progress: bool = True,
) -> Start | None:
    """Return what a training of `design` starts from; None for random weights.

    `pretraining` is "none", "moco" or a path. With "moco" the pretraining by `plan` is run, or taken from a folder
    below `folder` where it was run before. A file is read and tried when the training begins.
    """
    if pretraining == NONE:
        return None
    if pretraining == MOCO:
        made = pretrain_on_set(design, plan, membrane_set, folder, progress=progress)
        return start_from_file(made.weights, name=MOCO)
    return start_from_file(Path(pretraining))


def start_from_file(path: Path, *, name: str = "") -> Start:
    """Return the start of a training from a file of a pretrained encoder."""
    if not path.is_file():
        raise InputError(
            f"`pretraining` must be none, moco or the path of a pretrained encoder's file; there is no {path}. "
            "Check the path."
        )
    return Start(name or path.name, file_digest(path), lambda network: load_pretrained(network, path))


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
