"""MoCo v2: an encoder learns which two views are of one patch, among many keys that are not.

    q = head(mean over the map of encoder(view 1)) / |...|
    k = the same of view 2 by the momentum network, whose weights are m theta_k + (1 - m) theta_q
    loss = -log( exp(q.k / tau) / (exp(q.k / tau) + sum over the queue exp(q.n / tau)) )

    q, k   [batch, embedding]   unit length          n      [queue, embedding]   keys of earlier steps
    m      momentum             tau  temperature

Head, queue, loss and momentum update are lightly's. Two numbers say whether it works. `accuracy` is the share of
queries that are nearer to their own key than to every key of the queue. `spread` is the standard deviation of each
component of q over the batch, averaged over components and times sqrt(embedding): 1 for directions that fill the
sphere, 0 where all images have collapsed to one direction. Collapsed embeddings have a loss of log(1 + queue).

Batch normalisation lets the images of a batch know of each other, and a key could be told by the statistics that it
shares with its query. So the keys are normalised in `key_groups` random groups (He et al., section 3.3: shuffling BN,
there with a GPU a group).

Source: He et al. 2020 (MoCo); Chen et al. 2020 (MoCo v2).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from lightly.loss import NTXentLoss  # type: ignore[import-untyped]
from lightly.models.modules.heads import MoCoProjectionHead  # type: ignore[import-untyped]
from lightly.models.utils import deactivate_requires_grad, update_momentum  # type: ignore[import-untyped]
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import normalize

from emseg.membrane.pretraining.plan import PretrainingPlan
from emseg.membrane.pretraining.views import N_STEP, draw_seed

Embeddings = Float[Tensor, "image embedding"]


class Embedder(nn.Module):
    """An encoder, the mean over its deepest map, and MoCo's projection head."""

    def __init__(self, encoder: nn.Module, plan: PretrainingPlan) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = MoCoProjectionHead(n_features(encoder, plan.crop_size), plan.hidden, plan.embedding)

    def forward(self, views: Float[Tensor, "image 1 row column"]) -> Embeddings:
        """Return the embeddings at unit length."""
        return normalize(self.head(deepest_map(self.encoder(views)).mean((2, 3))), dim=1)


def deepest_map(maps: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the last of an encoder's feature maps, which is the deepest."""
    return maps if isinstance(maps, Tensor) else maps[-1]


def n_features(encoder: nn.Module, side: int) -> int:
    """Return the number of channels of an encoder's deepest map; the encoder is left as it was."""
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        n_channels = deepest_map(encoder(torch.zeros(1, 1, side, side))).shape[1]
    encoder.train(was_training)
    return int(n_channels)


@torch.no_grad()
def embedding_spread(embeddings: Embeddings) -> float:
    """Return the standard deviation over images of unit embeddings, times sqrt(embedding): from 0, collapsed, to 1."""
    return float(embeddings.std(0, correction=0).mean() * embeddings.shape[1] ** 0.5)


@torch.no_grad()
def contrast_accuracy(queries: Embeddings, keys: Embeddings, negatives: Float[Tensor, "negative embedding"]) -> float:
    """Return the share of queries that are nearer to their own key than to every negative."""
    own = (queries * keys).sum(1)
    return float((own > (queries @ negatives.T).amax(1)).float().mean())


class MomentumContrast(LightningModule):
    """The two networks and the queue, in the state of a checkpoint or new; `rows` has one entry a step."""

    def __init__(self, encoder: nn.Module, plan: PretrainingPlan, kept: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.plan, self.first_step = plan, 0
        self.rows: list[dict[str, float]] = []
        self._optimizer_state: Mapping[str, Any] | None = None
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(draw_seed(plan.seed, N_STEP))
            self.query = Embedder(encoder, plan)
            self.loss = NTXentLoss(plan.temperature, memory_bank_size=(plan.queue, plan.embedding))
        self.key = copy.deepcopy(self.query)
        deactivate_requires_grad(self.key)
        if kept is not None:
            self._restore(kept)

    @property
    def queue(self) -> Float[Tensor, "negative embedding"]:
        """The keys that the queries are compared with."""
        bank: Tensor = self.loss.memory_bank.bank
        return bank

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer of the query network, in the state in which the pretraining was left."""
        plan, parameters = self.plan, self.query.parameters()
        optimizer: torch.optim.Optimizer
        if plan.optimizer == "adamw":
            optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
        else:
            optimizer = torch.optim.SGD(parameters, lr=plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay)
        if self._optimizer_state is not None:
            optimizer.load_state_dict(dict(self._optimizer_state))
        return optimizer

    def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
        """Set the learning rate of the step."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.plan.rate_at(self.first_step + batch_idx)

    def training_step(self, batch: Float[Tensor, "image view 1 row column"], batch_idx: int) -> Tensor:
        """Return the loss of a batch of pairs."""
        step = self.first_step + batch_idx
        update_momentum(self.query, self.key, m=self.plan.momentum)
        queries = self.query(batch[:, 0]).float()
        keys = self._keys(batch[:, 1], step)
        accuracy = contrast_accuracy(queries, keys, self.queue)
        loss: Tensor = self.loss(queries, keys)
        self.rows.append(
            {
                "step": step + 1,
                "loss": float(loss.detach()),
                "accuracy": accuracy,
                "spread": embedding_spread(queries),
                "learning_rate": self.plan.rate_at(step),
            }
        )
        return loss

    @torch.no_grad()
    def _keys(self, views: Float[Tensor, "image 1 row column"], step: int) -> Embeddings:
        """Return the keys, each normalised within a random group of the batch."""
        generator = torch.Generator().manual_seed(draw_seed(self.plan.seed, N_STEP, step))
        order = torch.randperm(len(views), generator=generator).to(views.device)
        groups = [self.key(part) for part in views[order].chunk(self.plan.key_groups)]
        return torch.cat(groups).float()[order.argsort()]

    def checkpoint(self) -> dict[str, Any]:
        """Return all that going on needs besides the optimizer; lightly leaves the queue out of its state dict."""
        bank = self.loss.memory_bank
        return {
            "step": self.first_step + len(self.rows),
            "network": self.state_dict(),
            "queue": bank.bank,
            "queue_place": bank.bank_ptr,
        }

    def _restore(self, kept: Mapping[str, Any]) -> None:
        self.load_state_dict(kept["network"])
        bank = self.loss.memory_bank
        bank.bank, bank.bank_ptr = kept["queue"], kept["queue_place"]
        self.first_step, self._optimizer_state = int(kept["step"]), kept["optimizer"]
