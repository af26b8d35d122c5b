"""Training a membrane network: `train_network` runs a plan in a work folder and returns the network.

One step: crops (`crop_sampling`), their loss (`MembraneTask`), one update (`emseg.training.lightning_steps`). An
interrupted training resumes, on a CPU and with the same number of threads to the same bits.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from emseg.errors import UsageError
from emseg.membrane.dataset import MembraneImage, MembraneSet
from emseg.membrane.losses import MembraneLoss
from emseg.membrane.networks import (
    REFINING_CHANNELS,
    MembraneNetwork,
    NetworkDesign,
    build_network,
    build_refined,
    load_network_weights,
    network_header,
)
from emseg.membrane.training.crop_sampling import CropBatch, StepBatches, augmented
from emseg.membrane.training.membrane_plan import TrainingPlan
from emseg.membrane.training.membrane_prediction import validate
from emseg.tiling.resume import digest_of_weights
from emseg.training import work_folder
from emseg.training.devices import chosen_precision, device_name, require_device

ImageAndTruth = tuple[Float[Tensor, "crop 1 size size"], Float[Tensor, "crop 1 size size"]]


@dataclass(frozen=True)
class Start:
    """What a network starts from other than random weights; `load` puts it into a network of `build_network`."""

    name: str
    digest: str
    load: Callable[[MembraneNetwork], object]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network in evaluation mode, and what the training took.

    `curves` has a value per step under "step", "seconds", "learning_rate" and "loss"; `validation` one per validation
    under "step", "membrane_f1" (at 0.5), "best_membrane_f1" and "best_threshold". `seconds` counts all parts of an
    interrupted training, from its checkpoints. `peak_memory_mib` is of the GPU, or of the process on a CPU.

    Of a refinement `network` is the refined network, `n_parameters` counts both of its networks, and all else is of the
    second stage alone; `first` is the first stage. Of a refit `first` is the training that chose the threshold.
    """

    network: MembraneNetwork
    design: NetworkDesign
    plan: TrainingPlan
    curves: Mapping[str, list[float]]
    validation: Mapping[str, list[float]]
    n_images: int
    n_parameters: int
    seconds: float
    crops_per_second: float
    peak_memory_mib: float
    device: str
    precision: str
    weights: Path
    first: "TrainedNetwork | None" = None

    @property
    def stages(self) -> "tuple[TrainedNetwork, ...]":
        """The trainings that led here, in their order."""
        return (self,) if self.first is None else (self.first, self)


class MembraneTask:
    """What Lightning repeats: the crops of a step and their loss; a `StepTask` of `emseg.training.lightning_steps`.

    The loss of a network with several supervised outputs (CASENet's sides) is the mean of their losses.
    """

    def __init__(self, plan: TrainingPlan, images: Sequence[MembraneImage]) -> None:
        self.plan, self.images = plan, images
        self.loss = MembraneLoss(plan.focal_gamma, plan.dice_weight, plan.boundary_weight)

    def batches(self, process: int, n_processes: int) -> StepBatches:
        """Return this process's crops, by step."""
        return StepBatches(self.images, self.plan, process, n_processes)

    def prepared(self, batch: CropBatch) -> ImageAndTruth:
        """Return the augmented crops and their truth."""
        image, membrane = augmented(batch, self.plan.crop_size)
        return image.contiguous(memory_format=torch.channels_last), membrane

    def losses(self, network: MembraneNetwork, batch: ImageAndTruth, step: int) -> dict[str, Tensor]:
        """Return the loss of a step."""
        image, membrane = batch
        losses = [self.loss(logits.float(), membrane) for logits in network.training_outputs(image)]
        return {work_folder.LOSS: torch.stack(losses).mean()}


def train_network(
    design: NetworkDesign,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    work_dir: str | Path,
    *,
    start: Start | None = None,
    first: TrainedNetwork | None = None,
    resume: bool = True,
    progress: bool = True,
) -> TrainedNetwork:
    """Train a network of this design by this plan on the set's training images.

    With `first` the network refines that one's prediction (`RefinedNetwork`): its design has two input channels, and
    `first` stays as it is.

    With `resume` a training resumes from the work folder's checkpoint, and a finished one is returned at once; without
    it the training begins anew. Raises `UsageError` for settings that do not fit each other, the data, the device or
    the work folder, for a loss that is not finite or too little memory; `InputError` for files that cannot be used.
    """
    work_dir = Path(work_dir)
    device = require_device(plan.device, plan.n_devices, plan.precision)
    precision = chosen_precision(plan.precision, device)
    if not membrane_set.train:
        raise UsageError(f"a training needs at least one image; {membrane_set.name} has none to train on.")
    settings = training_settings(design, plan, membrane_set, start, first)
    settings["plan"] |= {"device": device.type, "precision": precision}
    work_folder.begin(work_dir, settings, resume=resume)
    from emseg.training.lightning_steps import quiet_lightning, run_steps  # Lightning takes seconds to import

    with quiet_lightning(device):  # the networks' library warns about notebooks when it is imported
        if first is None:
            network = build_network(design, seed=plan.seed)
        else:
            network = build_refined(first.network, design, seed=plan.seed)
        took = work_folder.read_finished(work_dir)
        if took is None:
            if start is not None and work_folder.read_checkpoint(work_dir) is None:
                start.load(network)
            validation = membrane_set.validation
            done = run_steps(
                network.to(memory_format=torch.channels_last),
                plan,
                MembraneTask(plan, membrane_set.train),
                work_dir,
                device=device,
                precision=precision,
                n_devices=plan.n_devices,
                gradient_clip=plan.gradient_clip,
                look=partial(validate, images=validation, size=plan.validation_size, precision=precision),
                look_every=plan.validate_every if validation else 0,
                progress=progress,
            )
            took = {
                "n_images": len(membrane_set.train),
                "n_parameters": sum(parameter.numel() for parameter in network.parameters()),
                "seconds": done["seconds"],
                "crops_per_second": plan.n_steps * plan.batch_size / max(done["seconds"], 1e-9),
                "peak_memory_mib": done["peak_memory_mib"],
                "device": device_name(device),
            }
            took = work_folder.finish(work_dir, done["network"], took, network_header(network))
    took.pop("weights_sha256", None)
    load_network_weights(network, work_dir / work_folder.WEIGHTS)
    return TrainedNetwork(
        network=network.to(device, memory_format=torch.channels_last).eval(),  # type: ignore[call-overload]
        design=design,
        plan=plan,
        curves=work_folder.read_columns(work_dir / work_folder.CURVES),
        validation=work_folder.read_columns(work_dir / work_folder.VALIDATION),
        weights=work_dir / work_folder.WEIGHTS,
        precision=precision,
        first=first,
        **took,
    )


def training_settings(
    design: NetworkDesign,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    start: Start | None,
    first: TrainedNetwork | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what determines the weights; raise `UsageError` for a design of other channels."""
    channels = 1 if first is None else REFINING_CHANNELS
    if design.in_channels != channels:
        raise UsageError(
            f"the design must have in_channels={channels}: a network sees the image, and one that refines a first "
            f"network also sees that one's probability of membrane; got in_channels={design.in_channels}. "
            f"Use replace(design, in_channels={channels})."
        )
    stage = {} if first is None else {"design": first.design.to_dict(), "digest": digest_of_weights(first.network)}
    return {
        "design": design.to_dict(),
        "plan": plan.settings(),
        "data": {"fingerprint": membrane_set.fingerprint, "train": [image.name for image in membrane_set.train]},
        "start": {} if start is None else {"name": start.name, "digest": start.digest},
        "first": stage,
    }
