"""Frequency attention under torch's transforms: meta tensors, export with open sizes, ONNX, batched derivatives."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import jacfwd, jacrev, vjp, vmap

from emseg.frequency import ATTENTIONS, FanetAttention, build_attention, dct_pool

# torch scripts some of its own rules when derivatives are first taken in batches, and deprecates scripting.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")

PAIRS = [(0, 0), (1, 2)]
MAPS = torch.randn(1, 4, 8, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def pool(x: Tensor) -> Tensor:
    return dct_pool(x, PAIRS)


def attended(name: str) -> nn.Module:
    """The attention behind a convolution, so that its maps are computed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), build_attention(name, 32, stage=3)).eval()


OPEN_SIZES = (
    {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=16, max=2048),
        3: torch.export.Dim("width", min=16, max=2048),
    },
)


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_the_meta_device_shapes_dtypes_and_gradients_follow(name, layout, dtype) -> None:
    """A network that is built there can be planned without memory: forward and backward."""
    with torch.device("meta"):
        layer = build_attention(name, 32, stage=3).to(dtype)
    x = torch.empty(2, 32, 20, 24, device="meta", dtype=dtype).contiguous(memory_format=layout).requires_grad_()
    out = layer(x)
    assert (out.device.type, out.shape, out.dtype) == ("meta", x.shape, dtype)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert gradient.shape == x.shape
    assert dct_pool(x).shape == (2, 32)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_an_exported_network_gives_the_same_at_sizes_it_has_not_seen(name) -> None:
    network = attended(name)
    program = torch.export.export(network, (torch.randn(2, 1, 32, 48),), dynamic_shapes=OPEN_SIZES).module()
    for shape in ((3, 1, 40, 56), (1, 1, 17, 300)):
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), network(x), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_an_onnx_file_gives_the_same_at_sizes_it_has_not_seen(name, tmp_path) -> None:
    pytest.importorskip("onnxscript", reason="onnxscript is not installed: pip install onnxscript onnxruntime")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install onnxruntime")
    network = attended(name)
    program = torch.onnx.export(
        network, (torch.randn(2, 1, 32, 48),), dynamo=True, dynamic_shapes=OPEN_SIZES, verbose=False
    )
    program.save(tmp_path / "network.onnx")
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    for shape in ((3, 1, 40, 56), (1, 1, 17, 300)):
        x = torch.randn(shape)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(found, network(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_batched_derivatives_are_those_one_by_one() -> None:
    """A pull-back under vmap, jacobians in one batch, forwards and backwards: all are the matrix of the cosines."""
    y, pull = vjp(pool, MAPS)
    units = torch.eye(y.numel(), dtype=y.dtype).reshape(-1, *y.shape)
    wanted = torch.stack([pull(unit)[0] for unit in units]).reshape(*y.shape, *MAPS.shape)
    assert wanted[0, 3, 0, 3].abs().min() > 0
    found = {
        "vmap of vjp": vmap(pull)(units)[0].reshape(wanted.shape),
        "jacrev": jacrev(pool)(MAPS),
        "jacfwd": jacfwd(pool)(MAPS),
        "vectorized": torch.autograd.functional.jacobian(pool, MAPS, vectorize=True),
        "vectorized, forwards": torch.autograd.functional.jacobian(pool, MAPS, vectorize=True, strategy="forward-mode"),
        "image by image": vmap(jacrev(lambda one: pool(one[None])[0]))(MAPS)[:, :, None],
    }
    for how, matrix in found.items():
        torch.testing.assert_close(matrix, wanted, rtol=0, atol=1e-15, msg=how)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradcheck_passes_with_batched_gradients(layout) -> None:
    x = MAPS.contiguous(memory_format=layout).clone().requires_grad_()
    assert torch.autograd.gradcheck(
        pool, x, check_batched_grad=True, check_forward_ad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(pool, x, check_batched_grad=True)
    layer = FanetAttention(4, reduction=2, frequencies=PAIRS).double()
    assert torch.autograd.gradcheck(layer, x, check_batched_grad=True)
