"""Pretraining an encoder: `pretrain` runs momentum contrast in a work folder and leaves the encoder there.

    WORK_DIR/settings.json        what decides the weights: design, plan, images; another run's are refused
    WORK_DIR/state.pt             what a killed pretraining goes on from; removed when it is done
    WORK_DIR/curves.csv           loss, accuracy, spread and learning rate of every step
    WORK_DIR/encoder.safetensors  the encoder, for `load_pretrained`
    WORK_DIR/finished.json        what it took; a folder that has it is not trained again

A pretraining that was killed and called again gives, on a CPU and with the same number of threads, the same weights bit
for bit: views and groups are functions of the seed and the step (`views`), the state holds all else. Every file is
written beside its place and moved there, so a kill leaves the old one or the new one. One device. Labels are never
read.
"""

import csv
import io
import json
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from emseg.errors import InputError, UsageError
from emseg.membrane.pretraining.encoder_files import file_digest, write_encoder_file
from emseg.membrane.pretraining.plan import PretrainingPlan
from emseg.membrane.pretraining.views import StepDraws, UnlabelledImage, Views
from emseg.runs.record import write_atomically

if TYPE_CHECKING:
    from emseg.membrane.networks import NetworkDesign
    from emseg.membrane.pretraining.momentum_contrast import MomentumContrast

SETTINGS, STATE, CURVES_FILE = "settings.json", "state.pt", "curves.csv"
ENCODER, FINISHED = "encoder.safetensors", "finished.json"


@dataclass(frozen=True, eq=False)
class PretrainedEncoder:
    """A pretrained encoder's file, and what the pretraining took.

    `curves` holds a value a step under "loss", "accuracy", "spread" and "learning_rate". `seconds` counts all parts of
    a pretraining that was interrupted, from its checkpoints.
    """

    weights: Path
    sha256: str
    plan: PretrainingPlan
    curves: Mapping[str, list[float]]
    n_images: int
    n_parameters: int
    seconds: float


def pretrain(
    design: "NetworkDesign",
    plan: PretrainingPlan,
    images: Sequence[UnlabelledImage],
    work_dir: str | Path,
    *,
    fingerprint: str = "",
    resume: bool = True,
    progress: bool = True,
) -> PretrainedEncoder:
    """Pretrain the encoder of `design` on `images`, whose labels are not looked at.

    `fingerprint` names the images, so that a work folder of others is refused. With `resume` a folder that holds this
    pretraining is gone on with, and one that is finished is returned at once; without it the pretraining begins anew.
    Raises `UsageError` for settings that do not fit the device or the work folder, `InputError` for unusable images.
    """
    from emseg.membrane.networks import build_network

    def encoder() -> nn.Module:
        built: nn.Module = build_network(design, seed=plan.seed).encoder
        return built

    settings = {"design": design.to_dict(), "images": _named(images, fingerprint)}
    return pretrain_encoder(encoder, plan, images, work_dir, settings=settings, resume=resume, progress=progress)


def pretrain_encoder(
    build_encoder: Callable[[], nn.Module],
    plan: PretrainingPlan,
    images: Sequence[UnlabelledImage],
    work_dir: str | Path,
    *,
    settings: Mapping[str, Any],
    resume: bool = True,
    progress: bool = True,
) -> PretrainedEncoder:
    """Pretrain the encoder that `build_encoder` makes; `settings` says in plain data what it and the images are.

    See `pretrain`.
    """
    work_dir, device = Path(work_dir), _device(plan)
    views = Views(images, plan)
    wanted = json.loads(json.dumps({"plan": {**plan.settings(), "device": device}, **settings}, default=list))
    if resume:
        _require_same(work_dir, wanted)
        if (work_dir / FINISHED).is_file():
            return _finished(work_dir, plan)
    for name in (STATE, FINISHED, ENCODER) if not resume else ():
        (work_dir / name).unlink(missing_ok=True)
    write_atomically(work_dir / SETTINGS, json.dumps(wanted, indent=1) + "\n")
    module, seconds = _trained(build_encoder(), plan, views, work_dir, device, progress)
    module.cpu()
    _move_into(work_dir / ENCODER, lambda path: write_encoder_file(path, module.query.encoder.state_dict(), wanted))
    write_atomically(work_dir / CURVES_FILE, _csv(module.curves))
    took = {
        "sha256": file_digest(work_dir / ENCODER),
        "n_images": len(views.images),
        "n_parameters": sum(parameter.numel() for parameter in module.query.encoder.parameters()),
        "seconds": seconds,
    }
    write_atomically(work_dir / FINISHED, json.dumps(took, indent=1) + "\n")
    (work_dir / STATE).unlink(missing_ok=True)
    return _finished(work_dir, plan)


def _trained(
    encoder: nn.Module, plan: PretrainingPlan, views: Views, work_dir: Path, device: str, progress: bool
) -> tuple["MomentumContrast", float]:
    """Run the steps that are left, and return the networks with the seconds of all of them."""
    import lightning
    from lightning.pytorch.callbacks import TQDMProgressBar

    from emseg.membrane.pretraining.momentum_contrast import MomentumContrast

    class KeepState(lightning.Callback):
        """Restores the optimizer at the start, and writes the state every so many steps."""

        def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
            if state is not None:
                trainer.optimizers[0].load_state_dict(state["optimizer"])

        def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
            if module.step % plan.checkpoint_interval == 0 and module.step < plan.n_steps:
                whole = {**module.kept_state(), "optimizer": trainer.optimizers[0].state_dict(), "seconds": spent()}
                _move_into(work_dir / STATE, lambda path: torch.save(whole, path))

    def spent() -> float:
        return before + time.perf_counter() - started

    module = MomentumContrast(encoder, plan)
    state = _read_state(work_dir / STATE)
    before = 0.0
    if state is not None:
        module.restore(state)
        before = float(state["seconds"])
    started = time.perf_counter()
    callbacks: list[lightning.Callback] = [KeepState(), *([TQDMProgressBar(leave=False)] if progress else [])]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on workers and loggers
        trainer = lightning.Trainer(
            accelerator="gpu" if device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if plan.precision == "bf16" else "32-true",
            max_steps=plan.n_steps - module.first_step,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=progress,
        )
        loader = DataLoader(
            views,
            batch_sampler=StepDraws(plan, module.first_step),
            num_workers=plan.n_workers,
            pin_memory=device == "cuda",
        )
        trainer.fit(module, loader)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return module, spent()


def _read_state(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _finished(work_dir: Path, plan: PretrainingPlan) -> PretrainedEncoder:
    took = json.loads((work_dir / FINISHED).read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO((work_dir / CURVES_FILE).read_text(encoding="utf-8"))))
    curves = {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else {})}
    return PretrainedEncoder(weights=work_dir / ENCODER, plan=plan, curves=curves, **took)


def _named(images: Sequence[UnlabelledImage], fingerprint: str) -> dict[str, Any]:
    """Return what says which images these are."""
    return {"fingerprint": fingerprint, "sizes": [[image.name, image.height, image.width] for image in images]}


def _require_same(work_dir: Path, wanted: Mapping[str, Any]) -> None:
    path = work_dir / SETTINGS
    if not path.is_file():
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON ({error}). Use another work folder.") from error
    for part in sorted({*wanted, *before}):
        theirs, ours = before.get(part, {}), wanted.get(part, {})
        for name in sorted({*theirs, *ours}):
            if theirs.get(name) != ours.get(name):
                raise UsageError(
                    f"a work folder holds one pretraining; {work_dir} has one of {part} {name}="
                    f"{json.dumps(theirs.get(name))}, asked for was {json.dumps(ours.get(name))}. "
                    "Use another folder, or resume=False to pretrain anew."
                )


def _device(plan: PretrainingPlan) -> str:
    if plan.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device='cuda' needs a GPU that torch sees; there is none. Use device='auto' or 'cpu'.")
    return "cuda" if plan.device != "cpu" and torch.cuda.is_available() else "cpu"


def _move_into(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file beside its place and move it there."""
    unfinished = path.with_name(f"part-{path.name}")
    write(unfinished)
    unfinished.replace(path)


def _csv(curves: Mapping[str, list[float]]) -> str:
    lines = [",".join(["step", *curves])]
    lines += [
        ",".join([str(step), *(repr(value) for value in values)])
        for step, values in enumerate(zip(*curves.values(), strict=True), start=1)
    ]
    return "\n".join(lines) + "\n"
