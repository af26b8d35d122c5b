"""A network comes back from its file as it was, and files of anything else are refused whole."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from emseg.errors import InputError, UsageError
from emseg.membrane.networks import NetworkDesign, build_network, load_network, load_network_weights, save_network

DESIGN = NetworkDesign("unet", "plain", 2, 16, (24, 12), "fanet", {"reduction": 4})


def _saved(folder: Path, design: NetworkDesign = DESIGN, **options: object) -> Path:
    path = folder / "network.safetensors"
    save_network(build_network(design, seed=1), path, **options)  # type: ignore[arg-type]
    return path


def test_the_network_answers_as_before(tmp_path: Path) -> None:
    network = build_network(DESIGN, seed=1)
    x = torch.randn(2, 1, 40, 48, generator=torch.Generator().manual_seed(0))
    network(x)  # moves the statistics of batch normalisation, which must be kept too
    path = tmp_path / "new" / "network.safetensors"
    save_network(network, path)
    again = load_network(path)
    assert again.design == DESIGN
    assert not again.training
    with torch.no_grad():
        assert torch.equal(again(x), network.eval()(x))
    assert [file.name for file in path.parent.iterdir()] == ["network.safetensors"]


def test_nothing_is_fetched_to_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import segmentation_models_pytorch as smp

    design = NetworkDesign("unet", "resnet18", 2)
    path = tmp_path / "network.safetensors"
    network = build_network(design, seed=0)
    network.design = NetworkDesign("unet", "resnet18", 2, encoder_weights="imagenet")
    save_network(network, path)
    monkeypatch.setattr(smp.encoders, "get_encoder", None)
    assert load_network(path).design.encoder_weights == "imagenet"


def test_a_file_from_before_designs_had_channels_is_read_as_before(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = _saved(tmp_path)
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values = json.loads(header["design"])
    del values["in_channels"]
    save_file(weights, path, metadata={**header, "design": json.dumps(values)})
    assert load_network(path).design == DESIGN


def test_half_precision_halves_the_file_and_comes_back_in_single(tmp_path: Path) -> None:
    whole, half = _saved(tmp_path / "a"), _saved(tmp_path / "b", dtype=torch.float16)
    assert half.stat().st_size < 0.65 * whole.stat().st_size
    for name, value in load_network(half).state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(value, load_network(whole).state_dict()[name], rtol=1e-3, atol=1e-6)


def test_notes_are_kept_and_may_not_hide_the_design(tmp_path: Path) -> None:
    from safetensors import safe_open

    with safe_open(_saved(tmp_path, notes={"run": "20260101-abc"}), framework="pt") as file:
        assert file.metadata()["run"] == "20260101-abc"
    with pytest.raises(UsageError, match="`notes` must not contain 'design'"):
        _saved(tmp_path, notes={"design": "x"})


def test_weights_of_another_architecture_are_refused_with_what_would_have_fitted(tmp_path: Path) -> None:
    path = _saved(tmp_path, NetworkDesign("unet", "plain", 2, 8))
    wider = build_network(NetworkDesign("unet", "plain", 2, 16), seed=0)
    before = {name: value.clone() for name, value in wider.state_dict().items()}
    n, n_alike = len(before), sum(value.ndim == 0 for value in before.values()) + 1  # counters, and the head's bias
    message = f"of its {n} tensors the file has {n} by name and {n_alike} of the same shape, and 0 others, for example"
    with pytest.raises(InputError, match=message):
        load_network_weights(wider, path)
    assert all(torch.equal(value, before[name]) for name, value in wider.state_dict().items())
    with pytest.raises(InputError, match=r"linknet, resnet18.* has \d+ by name .* and \d+ others"):
        load_network_weights(build_network(NetworkDesign("linknet", "resnet18", 3, 8), seed=0), path)


def test_weights_that_lack_one_tensor_or_have_one_more_are_refused(tmp_path: Path) -> None:
    network = build_network(DESIGN, seed=0)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    removed = {name: value for name, value in weights.items() if name != "encoder.levels.0.conv1.weight"}
    added = {**weights, "extra": torch.zeros(1)}
    for given, odd in ((removed, "encoder.levels.0.conv1.weight"), (added, "extra")):
        save_file(given, tmp_path / "given.safetensors")
        with pytest.raises(InputError, match=odd):
            load_network_weights(network, tmp_path / "given.safetensors")
    save_file(weights, tmp_path / "given.safetensors")
    load_network_weights(network, tmp_path / "given.safetensors")


def test_files_that_are_no_network_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*missing.safetensors"):
        load_network(tmp_path / "missing.safetensors")
    path = _saved(tmp_path)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut.safetensors must be a whole .safetensors file"):
        load_network(cut)
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"must be a membrane network .*its format is 'missing'"):
        load_network(tmp_path / "other.safetensors")
    header = {"format": "emseg membrane network 1", "design": '{"encoder": "resnet9000"}'}
    save_file({"weight": torch.zeros(1)}, tmp_path / "newer.safetensors", metadata=header)
    with pytest.raises(InputError, match="has a design that this version does not know: `encoder` must be one of"):
        load_network(tmp_path / "newer.safetensors")


def test_a_wrong_ending_is_named_before_anything_is_written(tmp_path: Path) -> None:
    network = build_network(DESIGN, seed=0)
    with pytest.raises(UsageError, match=r"written as .safetensors; got 'network.pt'"):
        save_network(network, tmp_path / "network.pt")
    assert not list(tmp_path.iterdir())
