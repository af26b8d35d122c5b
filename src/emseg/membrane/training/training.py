"""Training a membrane network: `train_network` lets Lightning run a plan in a work folder and returns the network.

A training that was killed and called again gives, on a CPU and with the same number of threads, the same weights bit
for bit: crops are functions of seed and step (`draws`), and the checkpoint holds all else that a step depends on
(`work_folder`). Lightning's own checkpoints, which pickle objects and count epochs, are not used.

With several devices each takes an equal share of every step's crops, and batch normalisation sees that share alone, as
do the curves: the first device's. This is tested with processes on a CPU and has not been run on several GPUs; in a
notebook Lightning starts further GPUs only while CUDA has not been used yet.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from emseg.errors import InputError, UsageError
from emseg.membrane.dataset import MembraneSet
from emseg.membrane.networks import (
    REFINING_CHANNELS,
    MembraneNetwork,
    NetworkDesign,
    build_network,
    build_refined,
    load_network_weights,
    network_header,
)
from emseg.membrane.training import work_folder
from emseg.membrane.training.devices import chosen_precision, device_name, lightning_precision, require_device
from emseg.membrane.training.plan import TrainingPlan, settings_of
from emseg.membrane.training.quiet import quiet_lightning

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


@dataclass(frozen=True)
class Start:
    """What a network starts from other than random weights.

    `name` and `digest` say what it is; `load` puts it into a network that `build_network` made.
    """

    name: str
    digest: str
    load: Callable[[MembraneNetwork], object]


@dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A trained network in evaluation mode, and what the training took.

    `curves` holds a value for each step under "step", "seconds", "learning_rate" and "loss"; `validation` one for each
    look under "step", "membrane_f1" (at 0.5), "best_membrane_f1" and "best_threshold". `seconds` counts all parts of a
    training that was interrupted, from its checkpoints. `peak_memory_mib` is of the GPU, or of the process on a CPU.

    Of a refinement `network` is the refined network, `n_parameters` counts both of its networks, and all else is of the
    second stage alone; `first` is the first stage. Of a refit `first` is the training whose thresholds it is used with.
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

    With `first` the network refines what that one finds (`emseg.membrane.networks.refinement`): its design has two
    input channels, and `first` is left as it is.

    With `resume` a work folder that holds this training's checkpoint is gone on with, and one that is finished is
    returned at once; without it the training begins anew. `progress` draws a line on a terminal. Raises `UsageError`
    for settings that do not fit each other, the data, the device or the work folder, for a loss that is no number, and
    when memory does not suffice; `InputError` for files that cannot be used.
    """
    work_dir = Path(work_dir)
    device = require_device(plan.device, plan.n_devices, plan.precision)
    precision = chosen_precision(plan.precision, device)
    if not membrane_set.train:
        raise UsageError(f"a training needs at least one image; {membrane_set.name} has none to train on.")
    settings = training_settings(design, plan, membrane_set, start, first)
    settings["plan"] |= {"device": device.type, "precision": precision}
    work_folder.begin(work_dir, settings, resume=resume)
    took = work_folder.read_finished(work_dir)
    with quiet_lightning(device):  # the networks' library remarks on notebooks when it is imported
        network = _untrained(design, plan.seed, first)
    if took is None:
        kept = work_folder.read_checkpoint(work_dir)
        if kept is None and start is not None:
            start.load(network)
        with _one_clear_error_for_memory(plan, device), quiet_lightning(device):
            took = _train(network, plan, membrane_set, work_dir, kept, device, precision, progress)
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


def _untrained(design: NetworkDesign, seed: int, first: TrainedNetwork | None) -> MembraneNetwork:
    return build_network(design, seed=seed) if first is None else build_refined(first.network, design, seed=seed)


def training_settings(
    design: NetworkDesign,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    start: Start | None,
    first: TrainedNetwork | None = None,
) -> dict[str, dict[str, Any]]:
    """Return what decides the weights, as JSON gives it back; raise `UsageError` for a design of other channels."""
    channels = 1 if first is None else REFINING_CHANNELS
    if design.in_channels != channels:
        raise UsageError(
            f"the design must have in_channels={channels}: a network sees the image, and one that refines a first "
            f"network sees that one's probability of membrane as well; got in_channels={design.in_channels}. "
            f"Use replace(design, in_channels={channels})."
        )
    settings = {
        "design": design.to_dict(),
        "plan": dict(settings_of(plan)),
        "data": {"fingerprint": membrane_set.fingerprint, "train": [image.name for image in membrane_set.train]},
        "start": {} if start is None else {"name": start.name, "digest": start.digest},
        "first": {} if first is None else {"design": first.design.to_dict(), "digest": state_digest(first.network)},
    }
    kept: dict[str, dict[str, Any]] = json.loads(json.dumps(settings))
    return kept


def state_digest(module: nn.Module) -> str:
    """Return a digest of a module's weights, for `Start` and for the first stage of a refinement."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _train(
    network: MembraneNetwork,
    plan: TrainingPlan,
    membrane_set: MembraneSet,
    work_dir: Path,
    kept: Mapping[str, Any] | None,
    device: torch.device,
    precision: str,
    progress: bool,
) -> dict[str, Any]:
    """Train from where the checkpoint was left, and return what it took."""
    from emseg.membrane.training.callbacks import Steps, Validation
    from emseg.membrane.training.module import MembraneModule

    first = 0 if kept is None else int(kept["step"])
    if kept is not None:
        try:
            network.load_state_dict(kept["network"])
        except RuntimeError:
            raise InputError(
                f"{work_dir / work_folder.CHECKPOINT} is of another network than {work_dir / work_folder.SETTINGS} "
                "says. Remove it to start again."
            ) from None
    for name in (work_folder.CURVES, work_folder.VALIDATION):
        work_folder.keep_rows(work_dir / name, first)
    if first < plan.n_steps:
        module = MembraneModule(
            network.to(memory_format=torch.channels_last),
            plan,
            membrane_set.train,
            first_step=first,
            optimizer_state=None if kept is None else kept["optimizer"],
        )
        callbacks: list[Any] = []
        if plan.validate_every and membrane_set.validation:
            callbacks.append(
                Validation(
                    work_dir,
                    membrane_set.validation,
                    every=plan.validate_every,
                    size=plan.validation_size,
                    precision=precision,
                )
            )
        # after the validation, so that a checkpoint never says a look is done that is not written
        callbacks.append(Steps(work_dir, 0.0 if kept is None else float(kept["seconds"]), progress))
        trainer = _trainer(plan, device, precision, work_dir, callbacks)
        if kept is not None:
            trainer.precision_plugin.load_state_dict(kept.get("precision", {}))
        trainer.fit(module)
    done = work_folder.read_checkpoint(work_dir)
    if done is None or done["step"] != plan.n_steps:
        raise UsageError(f"the training in {work_dir} was stopped before its end. Call it again to go on.")
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    took = {
        "n_images": len(membrane_set.train),
        "n_parameters": n_parameters,
        "seconds": done["seconds"],
        "crops_per_second": plan.n_steps * plan.batch_size / max(done["seconds"], 1e-9),
        "peak_memory_mib": done["peak_memory_mib"],
        "device": device_name(device),
    }
    work_folder.finish(work_dir, done["network"], took, network_header(network))  # so that `load_network` can read it
    return took


def _trainer(
    plan: TrainingPlan, device: torch.device, precision: str, work_dir: Path, callbacks: list[Any]
) -> "Trainer":
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import TensorBoardLogger

    strategy = "auto"
    if plan.n_devices > 1:
        # processes are forked in a notebook, where a new one could not find the notebook's own names
        strategy = "ddp_notebook" if _in_notebook() else "ddp_spawn"
    devices: Any = plan.n_devices if plan.n_devices > 1 or device.type == "cpu" else [device.index or 0]
    return Trainer(
        accelerator="cpu" if device.type == "cpu" else "cuda",
        devices=devices,
        strategy=strategy,
        precision=lightning_precision(precision),  # type: ignore[arg-type]
        max_epochs=1,
        gradient_clip_val=plan.gradient_clip or None,
        callbacks=callbacks,
        logger=TensorBoardLogger(work_dir, name="", version="tensorboard") if plan.tensorboard else False,
        default_root_dir=work_dir,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        log_every_n_steps=10**9,
    )


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return get_ipython() is not None


@contextmanager
def _one_clear_error_for_memory(plan: TrainingPlan, device: torch.device) -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "can't allocate memory" not in str(error):
            raise
        precision = "" if plan.precision == "bf16" else ", or precision='bf16'"
        raise UsageError(
            f"the training does not fit into the memory of {device_name(device)}. Use a smaller batch_size (now "
            f"{plan.batch_size}) or crop_size (now {plan.crop_size}){precision}."
        ) from error
