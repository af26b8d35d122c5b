"""Loading a pretrained encoder from a file into a network, and reporting how much of it was loaded.

    format       recognised by                                     its encoder     grey was normalised by
    cem500k      `norms` next to `state_dict`: Conrad and Narayan   encoder_q       the file's norms, 0.573 and 0.127
    moco         encoder_q among the names: MoCo's own code        encoder_q       ImageNet's, in colour
    network      encoder. among the names: any of this book's      encoder         ours, 0.5 and 0.5
    torchvision  conv1, layer1, ... as torchvision has them        all but fc      ImageNet's, in colour

Nothing is loaded partially without a report, unlike by torch's `load_state_dict(strict=False)`, with which the public
code of the U-RISC paper loads CEM500K and matches no tensor. Every tensor that file and encoder share has one shape;
every tensor of the encoder comes from the file, except those of an attention, which a plain ResNet lacks: they are left
and reported. The file has no other blocks (`conv1`, `layer3.5`, ...), except whole stages that the encoder lacks.

Other normalisations (g - m_c) / s_c of grey g are folded into the first convolution w, which is fed x = (g - m) / s:

    sum_c w_c * (a_c x + b_c) = (sum_c a_c w_c) * x + sum_c b_c sum_ij w_cij       a_c = s / s_c,  b_c = (m - m_c) / s_c

    w   [output, c, row, column]   weights of the first convolution, which has no bias;   * is convolution

The last term is subtracted from the running mean of the batch normalisation that follows. This is exact, also for one
channel from three (a colour network sees grey as three equal channels), except within the zero padding of the border.
"""

import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from emseg.checks import Fraction, Items, validated
from emseg.errors import InputError, UsageError
from emseg.files import digest_of_file
from emseg.membrane.networks.network_files import SAFETENSORS, read_tensors

CEM500K_FILE = "cem500k_mocov2_resnet50_200ep.pth.tar"
CEM500K_RECORD = "Zenodo record 6453140"
STEM, _STEM_MEAN = "conv1.weight", "bn1.running_mean"
_QUERY = re.compile(r"(?:module\.)?encoder_q\.")
_OPTIONAL = re.compile(r"\.attention\.|\.num_batches_tracked$")  # what a plain ResNet, or an older torch, lacks
_HEAD = re.compile(r"fc(\.|$)")
_BLOCK = re.compile(r"layer\d+\.\d+|[^.]+")
_METADATA = ("argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "datetime.datetime")
_N_SHOWN = 3
_REPAIR = "Use the encoder (depth, width, one channel) that the file was made with."


@validated
class Normalization:
    """Mean and standard deviation of grey from 0 to 1, one of each per channel."""

    mean: Items[Fraction]
    std: Items[Annotated[float, Field(gt=0, le=1)]]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise UsageError(
                f"a normalisation has one mean and one std for each channel; got {len(self.mean)} and {len(self.std)}."
            )


OURS = Normalization((0.5,), (0.5,))  # of the membrane networks of this book
CEM500K = Normalization((0.57287007,), (0.12740536,))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class LoadReport:
    """How much of an encoder came from a file.

    `n_loaded` of the encoder's `n_tensors` tensors came from the file, `n_values` numbers in all; `kept` are those
    absent from the file, `unused` those that only the file has. `folded` is the normalisation of grey that was folded
    into the first convolution, None if it was ours already. `sha256` is the file's.
    """

    path: Path
    format: str
    n_loaded: int
    n_tensors: int
    n_values: int
    kept: tuple[str, ...]
    unused: tuple[str, ...]
    folded: Normalization | None
    epoch: int | None
    sha256: str

    @property
    def n_in_file(self) -> int:
        """Number of the file's tensors for an encoder, without heads and momentum averages."""
        return self.n_loaded + len(self.unused)

    def __str__(self) -> str:
        text = (
            f"{self.n_loaded} of the encoder's {self.n_tensors} tensors ({self.n_values:,} values) loaded from the "
            f"{self.n_in_file} of {self.path.name} (format {self.format}, SHA-256 {self.sha256[:12]}...)"
        )
        for what, names in (("left as they were", self.kept), ("not used", self.unused)):
            text += f"; {what}: {_some(names)}" if names else ""
        if self.folded is not None:
            text += "; its normalisation of grey is folded into the first convolution, exact but at padded borders"
        return text + "."


def load_encoder(
    encoder: nn.Module,
    path: Path | str,
    *,
    normalization: Normalization | None = None,
    sha256: str | None = None,
    only_cem500k: bool = False,
) -> LoadReport:
    """Load the encoder in a file into `encoder`, and report what was loaded.

    `normalization` is that of the file's grey images where the file does not give it. The file must have the digest
    `sha256`, if given, which is checked before it is parsed; `only_cem500k` refuses other formats. The file is read
    with torch's `weights_only=True`: a pickle may contain any program, and none is run. Raises `InputError` for a file
    that cannot be read, has another digest or does not fit; the encoder is then unchanged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"the pretrained encoder must be a file; there is no {path}. Check the path.")
    digest = checked_digest(path, sha256)
    content = read_tensors(path)[0] if path.suffix == SAFETENSORS else _read_torch(path)
    kind, state, norms = _recognized(path, content)
    if only_cem500k and kind != "cem500k":
        raise InputError(
            f"{path} must be the CEM500K checkpoint, with `norms` next to a `state_dict` of module.encoder_q.*; it has "
            f"the format {kind}. Load it with load_encoder."
        )
    own, given = encoder.state_dict(), {name: tensor for name, tensor in state.items() if not _HEAD.match(name)}
    folded = _fold(path, given, normalization or norms, own)
    matched = [name for name in own if name in given]
    _require_match(path, own, given, matched)
    encoder.load_state_dict({**own, **{name: given[name].to(own[name].dtype) for name in matched}})
    epoch = content.get("epoch")
    return LoadReport(
        path=path,
        format=kind,
        n_loaded=len(matched),
        n_tensors=len(own),
        n_values=sum(own[name].numel() for name in matched),
        kept=tuple(name for name in own if name not in given),
        unused=tuple(name for name in given if name not in own),
        folded=folded,
        epoch=epoch if isinstance(epoch, int) else None,
        sha256=digest,
    )


def load_cem500k(encoder: nn.Module, path: Path | str, *, sha256: str | None = None) -> LoadReport:
    """Load the CEM500K checkpoint into a ResNet-50 `encoder`; see `load_encoder`.

    Download the file from Zenodo, which shows its MD5. Its SHA-256 is unknown to this book: pass it as `sha256` if you
    know it, or take it from the report of the first loading to pin the file from then on.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no {path}. Get {CEM500K_FILE} from {CEM500K_RECORD} (EMPIAR-10592) and give its path, or "
            "pretrain on your own images with pretraining='moco'."
        )
    return load_encoder(encoder, path, sha256=sha256, only_cem500k=True)


def checked_digest(path: Path, sha256: str | None) -> str:
    """Return a file's SHA-256; raises `InputError` where `sha256` is another one, `UsageError` where it is none."""
    digest = digest_of_file(path)
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(
            f"a SHA-256 has 64 digits 0-9, a-f; got {sha256!r}. Take it whole from `sha256sum FILE`, or leave it empty."
        )
    if sha256 and digest != sha256.lower():
        raise InputError(
            f"{path} must have the SHA-256 {sha256}; it has {digest}. Get the file again, or correct the digest."
        )
    return digest


class _Skipped:
    """Stands for a harmless object of a checkpoint: the unpickler makes this in its place and runs nothing."""

    def __new__(cls, *_: object) -> "_Skipped":
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None: ...


def _read_torch(path: Path) -> Mapping[str, Any]:
    """Return what torch reads with weights_only=True, with NumPy's scalars and `_Skipped` for harmless metadata."""
    scalars: list[Any] = [np.dtype, *(type(np.dtype(code)) for code in "?bhilqBHILQefd")]
    scalars += [(np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    allowed = [*scalars, *((_Skipped, name) for name in _METADATA)]
    try:
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged pickle raises has no end
        raise InputError(
            f"{path} must be a file that torch can load with weights_only=True, which runs no program; it cannot be "
            f"read ({type(error).__name__}). It may be truncated, or contain more than tensors and plain values: save "
            f"its state dict alone, or use {SAFETENSORS}."
        ) from None
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path} must contain tensors by name; it contains a {type(content).__name__}. Save a state dict."
        )
    return content


def _recognized(path: Path, content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], Normalization | None]:
    """Return format, encoder's tensors and normalisation of a file's content."""
    inner = content.get("state_dict", content)
    values = inner if isinstance(inner, Mapping) else {}
    state = {str(name): value for name, value in values.items() if isinstance(value, Tensor)}
    if query := {_QUERY.sub("", name): value for name, value in state.items() if _QUERY.match(name)}:
        if "norms" in content:
            return "cem500k", query, _norms(path, content["norms"])
        return "moco", query, _of_colour(query)
    if own := {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}:
        return "network", own, OURS
    bare = {name.removeprefix("module."): value for name, value in state.items()}
    if STEM in bare and any(name.startswith("layer1.") for name in bare):
        return "torchvision", bare, _of_colour(bare)
    raise InputError(
        f"{path} must contain a pretrained encoder in the format of CEM500K or MoCo (encoder_q.*), of torchvision "
        f"(conv1, layer1, ...) or of this book's networks (encoder.*); its first tensors are "
        f"{', '.join(list(state)[:_N_SHOWN]) or 'no tensors at all'}."
    )


def _norms(path: Path, norms: Any) -> Normalization:
    """Return the file's norms, [mean, std] or {"mean": ..., "std": ...}."""
    pair = [norms.get("mean"), norms.get("std")] if isinstance(norms, Mapping) else norms
    try:
        mean, std = (tuple(map(float, value if isinstance(value, list | tuple) else [value])) for value in pair)
        return Normalization(mean, std)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} must contain `norms` as [mean, std] of grey from 0 to 1; it contains {norms!r}."
        ) from error


def _of_colour(state: Mapping[str, Tensor]) -> Normalization | None:
    stem = state.get(STEM)
    return IMAGENET if stem is not None and stem.ndim == 4 and stem.shape[1] == 3 else None


def _fold(
    path: Path, given: dict[str, Tensor], was: Normalization | None, own: Mapping[str, Tensor]
) -> Normalization | None:
    """Fold the normalisation `was` into the tensors `given`; return it, or None where there is nothing to fold."""
    stem, target = given.get(STEM), own.get(STEM)
    if stem is None or target is None or stem.ndim != 4 or target.shape[1] != 1 or was == OURS:
        return None
    if was is None:
        raise InputError(
            f"{path} does not give the normalisation of its grey images. Pass `normalization=Normalization((mean,), "
            "(std,))` of grey from 0 to 1."
        )
    if len(was.mean) != stem.shape[1]:
        raise InputError(
            f"{path} must have a mean and a std for each input channel of {STEM}; it has {len(was.mean)} for "
            f"{stem.shape[1]} channels."
        )
    if _STEM_MEAN not in given:
        raise InputError(f"{path} must contain {_STEM_MEAN}, the batch normalisation behind {STEM}; it does not.")
    weight, running_mean = stem.double(), given[_STEM_MEAN].double()
    mean, std = weight.new_tensor(was.mean), weight.new_tensor(was.std)
    factor, offset = OURS.std[0] / std, (OURS.mean[0] - mean) / std
    given[STEM] = (weight * factor[None, :, None, None]).sum(1, keepdim=True).to(stem.dtype)
    given[_STEM_MEAN] = (running_mean - weight.sum((2, 3)) @ offset).to(given[_STEM_MEAN].dtype)
    return was


def _require_match(path: Path, own: Mapping[str, Tensor], given: Mapping[str, Tensor], matched: list[str]) -> None:
    if not matched:
        raise InputError(
            f"none of the {len(given)} tensors of {path} has the name of one of the encoder's {len(own)}: the file has "
            f"{_some(given)}; the encoder has {_some(own)}. {_REPAIR}"
        )
    differing = [name for name in matched if own[name].shape != given[name].shape]
    if differing:
        shapes = [f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}" for name in differing]
        raise InputError(
            f"{len(differing)} of the {len(matched)} tensors that {path} and the encoder share have other shapes: "
            f"{_some(shapes)}. {_REPAIR}"
        )
    own_stages, own_blocks = {name.partition(".")[0] for name in own}, {_block(name) for name in own}
    lacking = [name for name in own if name not in given and not _OPTIONAL.search(name)]
    extra = [name for name in given if _block(name) not in own_blocks and name.partition(".")[0] in own_stages]
    for problem, names in (("lacks", lacking), ("has additional blocks,", extra)):
        if names:
            raise InputError(
                f"{path} must be of an encoder of the same depth, and whole; it {problem} {len(names)} tensors: "
                f"{_some(names)}. {_REPAIR}"
            )
    broken = [name for name in matched if not torch.isfinite(given[name].float()).all()]
    if broken:
        raise InputError(f"{path} must contain finite weights; {_some(broken)} contain NaN or infinity.")


def _block(name: str) -> str:
    return found.group() if (found := _BLOCK.match(name)) else name


def _some(names: Collection[str]) -> str:
    """Return the first names, and the number of the others."""
    more = f" and {len(names) - _N_SHOWN} more" if len(names) > _N_SHOWN else ""
    return ", ".join(list(names)[:_N_SHOWN]) + more
