"""Pretraining an encoder: `pretrain` lets Lightning run momentum contrast in a work folder and leaves an encoder there.

The work folder is that of any training (`emseg.membrane.training.work_folder`): settings, curves, checkpoint, weights.
The weights are the encoder's, as `encoder.*`, so that `load_pretrained` reads them like those of a whole network.

A pretraining that was killed and called again gives, on a CPU and with the same number of threads, the same weights bit
for bit: views and groups are functions of the seed and the step (`views`), and the checkpoint holds all else, the queue
and the momentum network among it. One device. Labels are never read.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from emseg.errors import UsageError
from emseg.membrane.dataset import UnlabelledImage
from emseg.membrane.networks import NetworkDesign, build_network
from emseg.membrane.pretraining.plan import PretrainingPlan
from emseg.membrane.pretraining.views import StepDraws, Views
from emseg.membrane.training import work_folder
from emseg.membrane.training.devices import chosen_precision, lightning_precision, require_device
from emseg.membrane.training.quiet import quiet_lightning

if TYPE_CHECKING:
    from emseg.membrane.pretraining.momentum_contrast import MomentumContrast

# What of a design says which encoder it has.
ENCODER_FIELDS = ("encoder", "encoder_depth", "base_channels", "attention", "attention_options", "encoder_weights")


@dataclass(frozen=True, eq=False)
class PretrainedEncoder:
    """A pretrained encoder's file, and what the pretraining took.

    `curves` holds a value a step under "step", "loss", "accuracy", "spread" and "learning_rate". `seconds` counts all
    parts of a pretraining that was interrupted, from its checkpoints.
    """

    weights: Path
    sha256: str
    plan: PretrainingPlan
    curves: Mapping[str, list[float]]
    n_images: int
    n_parameters: int
    seconds: float


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
    """Pretrain the encoder of `design` on `images`, whose labels are not looked at.

    `fingerprint` names the images' content, so that a work folder of others is refused. With `resume` a folder that
    holds this pretraining's checkpoint is gone on with, and one that is finished is returned at once; without it the
    pretraining begins anew. Raises `UsageError` for settings that do not fit the device or the work folder, or a loss
    that is no number; `InputError` for files and images that cannot be used.
    """
    if design.in_channels != 1:
        raise UsageError(
            f"pretraining sees the image alone; got a design with in_channels={design.in_channels}. Pretrain with "
            "in_channels=1."
        )
    work_dir = Path(work_dir)
    device = require_device(plan.device, 1, plan.precision)
    precision = chosen_precision(plan.precision, device)
    views = Views(images, plan)
    settings = {
        "design": {name: value for name, value in design.to_dict().items() if name in ENCODER_FIELDS},
        "plan": plan.settings() | {"device": device.type, "precision": precision},
        "data": {
            "fingerprint": fingerprint,
            "images": [[image.name, image.height, image.width] for image in images],
        },
    }
    work_folder.begin(work_dir, json.loads(json.dumps(settings)), resume=resume)
    took = work_folder.read_finished(work_dir)
    if took is None:
        with quiet_lightning(device):
            encoder: nn.Module = build_network(design, seed=plan.seed).encoder
            took = _trained(encoder, plan, views, work_dir, device, precision, progress)
    return PretrainedEncoder(
        weights=work_dir / work_folder.WEIGHTS,
        sha256=str(took["weights_sha256"]),
        plan=plan,
        curves=work_folder.read_columns(work_dir / work_folder.CURVES),
        n_images=int(took["n_images"]),
        n_parameters=int(took["n_parameters"]),
        seconds=float(took["seconds"]),
    )


def _trained(
    encoder: nn.Module,
    plan: PretrainingPlan,
    views: Views,
    work_dir: Path,
    device: torch.device,
    precision: str,
    progress: bool,
) -> dict[str, Any]:
    """Run the steps that are left, finish the folder, and return what all of them took."""
    from lightning.pytorch import Trainer

    from emseg.membrane.pretraining.momentum_contrast import MomentumContrast

    kept = work_folder.read_checkpoint(work_dir)
    module = MomentumContrast(encoder, plan, kept)
    work_folder.keep_rows(work_dir / work_folder.CURVES, module.first_step)
    if module.first_step < plan.n_steps:
        trainer = Trainer(
            accelerator="cpu" if device.type == "cpu" else "cuda",
            devices=1 if device.type == "cpu" else [device.index or 0],
            precision=lightning_precision(precision),  # type: ignore[arg-type]
            max_epochs=1,
            callbacks=[_keeper(module, work_dir, 0.0 if kept is None else float(kept["seconds"]), progress)],
            logger=False,
            default_root_dir=work_dir,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(
            module,
            DataLoader(
                views,
                batch_sampler=StepDraws(plan, module.first_step),
                num_workers=plan.n_workers,
                pin_memory=device.type == "cuda",
            ),
        )
    done = work_folder.read_checkpoint(work_dir)
    if done is None or done["step"] != plan.n_steps:
        raise UsageError(f"the pretraining in {work_dir} was stopped before its end. Call it again to go on.")
    prefix = "query.encoder."
    weights = {name: value for name, value in done["network"].items() if name.startswith(prefix)}
    took = {
        "n_images": len(views.images),
        "n_parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "seconds": done["seconds"],
    }
    work_folder.finish(work_dir, {name.removeprefix("query."): value for name, value in weights.items()}, took)
    return work_folder.read_finished(work_dir) or {}


def _keeper(module: "MomentumContrast", work_dir: Path, seconds_before: float, progress: bool) -> Any:
    """Return the callback that writes curves and checkpoints, stops a loss that is no number, and draws a line."""
    from lightning.pytorch import Callback

    class Keeper(Callback):
        def on_train_start(self, *_: Any) -> None:
            self.began = self.kept = time.perf_counter()
            self.n_written = 0
            n_steps = module.plan.n_steps
            disable = None if progress else True  # None: only on a terminal
            self.bar = tqdm(total=n_steps, initial=module.first_step, unit="step", disable=disable, leave=False)

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.bar.update()
            now, step = time.perf_counter(), module.first_step + len(module.rows)
            last = module.rows[-1]
            if not math.isfinite(last["loss"]):
                raise UsageError(
                    f"the loss must stay finite; it was {last['loss']} at step {step}. Lower `learning_rate` or "
                    "lengthen `warm_up_steps`."
                )
            if step < module.plan.n_steps and now - self.kept < module.plan.checkpoint_seconds:
                return
            self.kept = now
            work_folder.append_rows(work_dir / work_folder.CURVES, module.rows[self.n_written :])
            self.n_written = len(module.rows)
            optimizer = trainer.optimizers[0].state_dict()
            seconds = seconds_before + now - self.began
            work_folder.write_checkpoint(work_dir, {**module.checkpoint(), "optimizer": optimizer, "seconds": seconds})

        def teardown(self, *_: Any, **__: Any) -> None:
            self.bar.close()

    return Keeper()
