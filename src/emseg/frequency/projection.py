"""Weighted sums over whole maps, one separable weight for each group of channels, and their adjoint.

    y_bc   = sum_u sum_v R_gu K_gv x_bcuv          `Project`: reads the map once
    x_bcuv = y_bc R_gu K_gv                        `Spread`: its adjoint, so each is the other's derivative

    x  [batch, channel, height, width]   maps; the channels fall into `group` equal parts in order, g = g(c)
    R  [group, height]                   weight of each row        (for a cosine transform: `dct_basis`)
    K  [group, width]                    weight of each column
    y  [batch, channel]                  in the dtype of R and K, float32 for maps in half precision

The sums are matrix products, arranged so that memory is streamed once and no temporary is as large as the map:

    contiguous      K on every row, then R on what is left; for small maps R K^T first, one product for both axes
    channels last   R K^T on each group's own channels; where groups are narrow, of all groups on all channels
    half precision  a block at a time is converted to float32, so that sums and weights are float32
    other strides   a block at a time is copied

The vector is on the left of the large matrix, since that way round the product reads rows at the speed of memory.
Every product is one call: on a busy machine each start of several threads costs more than the arithmetic.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Maps = Float[Tensor, "batch channel height width"]
Rows = Float[Tensor, "group height"]
Columns = Float[Tensor, "group width"]
Sums = Float[Tensor, "batch channel"]

# Up to this many pixels, and from this many channels a group, one product with R K^T beats two (measured:
# benchmarks/channel_attention.py). R K^T is then at least that many times smaller than the map.
JOINT_PIXELS = 128 * 128
JOINT_CHANNELS = 8

# Channels a group from which, channels last, picking out each group's own beats computing all groups for all channels.
WIDE_GROUP = 32

# A map in half precision, or of odd strides, is converted in about so many blocks.
BLOCKS = 8


def project(x: Maps, rows: Rows, columns: Columns) -> Sums:
    """Return the weighted sum of each map, in the dtype of the weights. Plain products: no custom derivative."""
    if _is_batched(x):
        return project_written_out(x, rows, columns)
    if is_channels_last(x):
        return _project_channels_last(x, rows, columns)
    if x.dtype == rows.dtype and x.is_contiguous():
        return project_contiguous(x, rows, columns)
    return project_in_blocks(x, rows, columns)


def project_contiguous(x: Maps, rows: Rows, columns: Columns) -> Sums:
    """Return the same for a contiguous map in the dtype of the weights."""
    batch, channels, height, width = x.shape
    groups, joint = rows.shape[0], channels >= JOINT_CHANNELS * rows.shape[0]
    matrices, group_channels = batch * groups, channels // groups
    if not torch.compiler.is_exporting() and joint and height * width <= JOINT_PIXELS:
        weights = rows[:, :, None].expand(batch, groups, height, 1) * columns[:, None, :]
        left = weights.view(matrices, 1, height * width)
        return torch.bmm(left, x.view(matrices, group_channels, height * width).mT).view(batch, channels)
    left = columns[:, None].repeat(batch, 1, 1)
    by_row = torch.bmm(left, x.reshape(matrices, group_channels * height, width).mT)
    right = rows[:, :, None].repeat(batch, 1, 1)
    return torch.bmm(by_row.view(matrices, group_channels, height), right).view(batch, channels)


def project_in_blocks(x: Maps, rows: Rows, columns: Columns) -> Sums:
    """Return the same for a map of any strides and dtype, a few channels at a time."""
    parts = [
        project_contiguous(block.to(rows.dtype).contiguous(), rows[groups], columns[groups])
        for groups, block in _blocks_of_channels(x, rows.shape[0])
    ]
    return torch.cat(parts, dim=1)


def _project_channels_last(x: Maps, rows: Rows, columns: Columns) -> Sums:
    batch, channels, height, _ = x.shape
    groups, group_channels = rows.shape[0], channels // rows.shape[0]
    wide = group_channels >= WIDE_GROUP
    pixels = x.permute(0, 2, 3, 1)  # contiguous
    step = height if x.dtype == rows.dtype else -(-height // BLOCKS)
    total = torch.zeros((), dtype=rows.dtype, device=x.device)
    for top in range(0, height, step):
        weights = (rows[:, top : top + step, None] * columns[:, None, :]).flatten(1)
        block = pixels[:, top : top + step].to(rows.dtype).view(batch, -1, groups, group_channels)
        if wide:
            part = torch.stack([torch.bmm(weights[:, None], image.transpose(0, 1)) for image in block])
        else:
            part = torch.matmul(weights, block.flatten(2)).view(batch, groups, groups, group_channels)
        total = total + part
        del block  # before the next is made
    return (total if wide else total.diagonal(dim1=1, dim2=2).mT).reshape(batch, channels)


def spread(y: Sums, rows: Rows, columns: Columns, dtype: torch.dtype, channels_last: bool) -> Maps:
    """Return y_bc R_gu K_gv in `dtype` and in the asked memory format, each product rounded once."""
    batch, groups = y.shape[0], rows.shape[0]
    shape = (*y.shape, rows.shape[1], columns.shape[1])
    per_row = y.reshape(batch, groups, -1, 1) * rows[:, None]
    if _is_batched(y):
        return (per_row[..., None] * columns[:, None, None]).reshape(shape).to(dtype)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    out = torch.empty(shape, dtype=dtype, device=y.device, memory_format=layout)
    if dtype == rows.dtype:
        torch.mul(per_row[..., None], columns[:, None, None], out=out.view(batch, groups, -1, *shape[2:]))
        return out
    for part, source, weight in zip(out.chunk(groups, dim=1), per_row.unbind(1), columns, strict=True):
        part.copy_(source[..., None] * weight)
    return out


def project_written_out(x: Maps, rows: Rows, columns: Columns) -> Sums:
    """Return the same as plain products, which a compiler turns into one pass, and any transform can follow."""
    batch, channels, height, width = x.shape
    groups = rows.shape[0]
    grouped = x.reshape(batch, groups, channels // groups, height, width).to(rows.dtype)
    by_row = (grouped * columns[:, None, None]).sum(dim=-1)
    return (by_row * rows[:, None]).sum(dim=-1).reshape(batch, channels)


def is_channels_last(x: Tensor) -> bool:
    """Return whether a pixel's channels are together in memory, and only then; not asked of a batch of gradients."""
    return not _is_batched(x) and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _is_batched(x: Tensor) -> bool:
    """Return whether `x` is one of a batch of gradients (`is_grads_batched`): a view without storage."""
    return bool(torch._C._functorch.is_legacy_batchedtensor(x))


def _blocks_of_channels(x: Tensor, groups: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield (groups, their channels) in order: several whole groups a block, or some channels of one group."""
    group_channels = x.shape[1] // groups
    if groups >= BLOCKS:
        n_groups = -(-groups // BLOCKS)
        for first, block in enumerate(torch.split(x, n_groups * group_channels, dim=1)):
            yield slice(first * n_groups, (first + 1) * n_groups), block
        return
    for group, own in enumerate(torch.split(x, group_channels, dim=1)):
        for block in torch.split(own, -(-group_channels // (BLOCKS // groups)), dim=1):
            yield slice(group, group + 1), block


class Project(torch.autograd.Function):
    """`project`, with `Spread` as its derivative: gradients are written in one pass, in the layout of the map."""

    @staticmethod
    def forward(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return `project`."""
        return project(x, rows, columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the weights and what the map looked like."""
        x, rows, columns = inputs
        ctx.save_for_backward(rows, columns)
        ctx.save_for_forward(rows, columns)
        ctx.dtype, ctx.channels_last = x.dtype, is_channels_last(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """Return the adjoint of the gradient."""
        return Spread.apply(grad, *ctx.saved_tensors, ctx.dtype, ctx.channels_last), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: object) -> Any:
        """Return the same sums of the tangent, since they are linear."""
        return Project.apply(tangent, *ctx.saved_tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *weights: Tensor) -> tuple[Tensor, int]:
        """Run over the extra axis as over more maps of the batch."""
        maps = x.movedim(in_dims[0] or 0, 0)
        return Project.apply(maps.flatten(0, 1), *weights).unflatten(0, maps.shape[:2]), 0


class Spread(torch.autograd.Function):
    """`spread`, with `Project` as its derivative."""

    @staticmethod
    def forward(y: Tensor, rows: Tensor, columns: Tensor, dtype: torch.dtype, channels_last: bool) -> Tensor:
        """Return `spread`."""
        return spread(y, rows, columns, dtype, channels_last)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep the weights and what the map looked like."""
        ctx.save_for_backward(*inputs[1:3])
        ctx.save_for_forward(*inputs[1:3])
        ctx.dtype, ctx.channels_last = inputs[3:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Return the adjoint of the gradient."""
        return Project.apply(grad, *ctx.saved_tensors), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: object) -> Any:
        """Return the same sums of the tangent, since they are linear."""
        return Spread.apply(tangent, *ctx.saved_tensors, ctx.dtype, ctx.channels_last)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], y: Tensor, *weights: Any) -> tuple[Tensor, int]:
        """Run over the extra axis as over more maps of the batch."""
        values = y.movedim(in_dims[0] or 0, 0)
        return Spread.apply(values.flatten(0, 1), *weights).unflatten(0, values.shape[:2]), 0
