"""The network, its loss and its optimizer, as Lightning wants them; no more than calls.

The loss of a network with several supervised outputs (CASENet's sides) is the mean of their losses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from emseg.membrane.dataset import MembraneImage
from emseg.membrane.losses import MembraneLoss
from emseg.membrane.networks import MembraneNetwork
from emseg.membrane.training.augmentation import augmented
from emseg.membrane.training.draws import Batch, StepBatches, StepSampler, step_seed
from emseg.membrane.training.learning_rate import learning_rate_at
from emseg.membrane.training.plan import TrainingPlan


class MembraneModule(LightningModule):
    """A network in training by a plan on `images`; `first_step` steps are done already."""

    def __init__(
        self,
        network: MembraneNetwork,
        plan: TrainingPlan,
        images: Sequence[MembraneImage],
        *,
        first_step: int = 0,
        optimizer_state: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.plan, self.images, self.first_step = network, plan, images, first_step
        self.loss = MembraneLoss(
            focal_gamma=plan.focal_gamma, dice_weight=plan.dice_weight, boundary_weight=plan.boundary_weight
        )
        self._optimizer_state = optimizer_state

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0."""
        plan = self.plan
        return learning_rate_at(
            step,
            schedule=plan.schedule,
            learning_rate=plan.learning_rate,
            warm_up_steps=plan.warm_up_steps,
            n_steps=plan.n_steps,
        )

    def train_dataloader(self) -> "DataLoader[Batch]":
        """Return this process's share of the steps that are still to do."""
        plan = self.plan
        batches = StepBatches(
            self.images,
            seed=plan.seed,
            batch_size=plan.batch_size,
            crop_size=plan.crop_size,
            augmentation=plan.augmentation,
            process=self.trainer.global_rank,
            n_processes=self.trainer.world_size,
        )
        return DataLoader(
            batches,
            batch_size=None,
            sampler=StepSampler(self.first_step, plan.n_steps),
            num_workers=plan.n_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer, in the state in which the training was left."""
        kind = torch.optim.AdamW if self.plan.optimizer == "adamw" else torch.optim.Adam
        weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = kind(weights, lr=self.plan.learning_rate, weight_decay=self.plan.weight_decay)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(dict(self._optimizer_state))
        return optimizer

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate and the seed of the step that comes."""
        step = self.first_step + batch_idx
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.learning_rate(step)
        torch.manual_seed(step_seed(self.plan.seed, step, self.global_rank))

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch on the device."""
        return batch.to(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Return what the network sees, and the truth of it."""
        image, membrane = augmented(batch.windows, batch.changes, self.plan.crop_size)
        return image.contiguous(memory_format=torch.channels_last), membrane

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a step."""
        image, membrane = batch
        outputs = self.network.training_outputs(image)
        losses = [self.loss(logits.float(), membrane) for logits in outputs]
        return torch.stack(losses).mean()
