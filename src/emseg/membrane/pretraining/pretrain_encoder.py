"""Pretraining an encoder in a work folder, and what a network's encoder starts from: nothing, a pretraining or a file.

    "none"      random weights                                                  no `Start`
    "moco"      `pretrain` on the training images of the set, without labels    in a folder named by its settings
    "cem500k"   the CEM500K checkpoint, a file of the user's                    as it is
    a path      any other file that `load_encoder` reads                        as it is

The work folder is that of any training; the checkpoint includes queue and momentum network. The weights are named
`encoder.*`, so that `load_encoder` reads them like those of a whole network. The pretraining uses all training images,
also where only some of their labels are used afterwards, but no validation or test image: that would leak the test set.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emseg.errors import InputError, UsageError
from emseg.files import digest_of
from emseg.membrane.dataset import MembraneSet, UnlabelledImage
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining.moco import MomentumContrast, PretrainingPlan, Views
from emseg.membrane.pretraining.pretrained_encoder import (
    CEM500K_FILE,
    CEM500K_RECORD,
    LoadReport,
    checked_digest,
    load_cem500k,
    load_encoder,
)
from emseg.membrane.training import Start
from emseg.source_code import code_digest
from emseg.training import work_folder
from emseg.training.devices import chosen_precision, require_device

NONE, MOCO, CEM500K_NAME = "none", "moco", "cem500k"
_ENCODER_FIELDS = ("encoder", "encoder_depth", "base_channels", "attention", "attention_options", "encoder_weights")
# Code that decides the encoder: a change there makes an earlier pretraining obsolete.
_CODE = ("membrane/pretraining/*.py", "membrane/networks/*.py", "frequency/*.py", "training/*steps.py")


@dataclass(frozen=True, eq=False)
class PretrainedEncoder:
    """A pretrained encoder's file, and what the pretraining took.

    `curves` has a value per step under "step", "seconds", "learning_rate", "loss", "accuracy" and "spread". `seconds`
    counts all parts of an interrupted pretraining, from its checkpoints.
    """

    weights: Path
    sha256: str
    plan: PretrainingPlan
    curves: Mapping[str, list[float]]
    n_images: int
    n_parameters: int
    seconds: float


@dataclass(frozen=True)
class FileStart(Start):
    """A start from a file; `report` lists what was loaded when it was tried on an encoder of the design."""

    report: LoadReport


def pretrain(
    design: NetworkDesign,
    plan: PretrainingPlan,
    images: Sequence[UnlabelledImage],
    work_dir: str | Path,
    *,
    fingerprint: str = "",
    resume: bool = True,
    progress: bool = True,
) -> PretrainedEncoder:
    """Pretrain the encoder of `design` on `images`, without their labels, on one device.

    `fingerprint` identifies the images' content, so that a work folder of others is refused; `resume` and the errors
    are those of `train_network`.
    """
    if (n := design.in_channels) != 1:
        raise UsageError(f"pretraining sees the image alone; got a design with in_channels={n}. Use in_channels=1.")
    work_dir = Path(work_dir)
    device = require_device(plan.device, 1, plan.precision)
    precision = chosen_precision(plan.precision, device)
    views = Views(images, plan)
    settings = {
        "design": _encoder_settings(design),
        "plan": plan.settings() | {"device": device.type, "precision": precision},
        "data": {"fingerprint": fingerprint, "images": [[one.name, one.height, one.width] for one in images]},
    }
    work_folder.begin(work_dir, settings, resume=resume)
    took = work_folder.read_finished(work_dir)
    if took is None:
        from emseg.training.lightning_steps import run_steps  # Lightning takes seconds to import

        network = MomentumContrast(build_network(design, seed=plan.seed).encoder, plan)
        done = run_steps(network, plan, views, work_dir, device=device, precision=precision, progress=progress)
        prefix = "query.encoder."
        weights = {name.removeprefix("query."): w for name, w in done["network"].items() if name.startswith(prefix)}
        n_parameters = sum(parameter.numel() for parameter in network.query.encoder.parameters())
        took = {"n_images": len(images), "n_parameters": n_parameters, "seconds": done["seconds"]}
        took = work_folder.finish(work_dir, weights, took)
    return PretrainedEncoder(
        weights=work_dir / work_folder.WEIGHTS,
        sha256=took["weights_sha256"],
        plan=plan,
        curves=work_folder.read_columns(work_dir / work_folder.CURVES),
        **{name: took[name] for name in ("n_images", "n_parameters", "seconds")},
    )


def pretrain_on_set(
    design: NetworkDesign,
    plan: PretrainingPlan,
    membrane_set: MembraneSet,
    folder: str | Path,
    *,
    progress: bool = True,
) -> PretrainedEncoder:
    """Pretrain the encoder of `design` on a set's training images, in a folder below `folder` named by the settings."""
    work_dir = Path(folder) / work_name(design, plan, membrane_set)
    return pretrain(design, plan, membrane_set.train, work_dir, fingerprint=membrane_set.fingerprint, progress=progress)


def work_name(design: NetworkDesign, plan: PretrainingPlan, membrane_set: MembraneSet) -> str:
    """Return the name of a pretraining's folder; it ends in a digest of everything that decides the encoder."""
    decisive = [_encoder_settings(design), plan.settings(), membrane_set.fingerprint, torch.__version__]
    digest = digest_of(code_digest(*_CODE), json.dumps(decisive, sort_keys=True))
    return f"moco-{design.encoder}-seed{plan.seed}-{digest[:10]}"


def _encoder_settings(design: NetworkDesign) -> dict[str, Any]:
    return {name: value for name, value in design.to_dict().items() if name in _ENCODER_FIELDS}


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
    pretraining by `plan` is run, or taken from the folder below `folder` of an identical earlier one; pass the whole
    set, not only the images whose labels are used. A file is loaded into an encoder of `design` at once, so that no
    training begins with one that does not fit, and must have the digest `sha256`, if given.
    """
    if pretraining == NONE:
        return None
    if pretraining == MOCO:
        name, sha256 = MOCO, ""
        file = pretrain_on_set(design, plan, membrane_set, folder, progress=progress).weights
    elif pretraining != CEM500K_NAME:
        name, file = "", pretraining
    elif Path(file) != Path():
        name = CEM500K_NAME
    else:
        raise UsageError(
            "`pretraining_file` must name the CEM500K checkpoint where pretraining is cem500k; got none. Get "
            f"{CEM500K_FILE} from {CEM500K_RECORD} and give its path, or use pretraining='moco'."
        )
    start = start_from_file(Path(file), name=name, sha256=sha256)
    report = start.load(build_network(design, seed=0))
    assert isinstance(report, LoadReport)
    return FileStart(start.name, report.sha256, start.load, report)


def start_from_file(path: Path, *, name: str = "", sha256: str = "") -> Start:
    """Return the start of a training from a file of a pretrained encoder, which must have the digest, if given.

    The later loading refuses a file that has changed by then. Named "cem500k", it must be that checkpoint.
    """
    load = load_cem500k if name == CEM500K_NAME else load_encoder
    if not path.is_file() and name != CEM500K_NAME:
        raise InputError(
            f"`pretraining` must be none, moco, cem500k or the path of an encoder's file; there is no {path}. Check it."
        )
    digest = checked_digest(path, sha256) if path.is_file() else ""  # loading reports a missing file
    return Start(name or path.name, digest, lambda network: load(network.encoder, path, sha256=digest or None))
