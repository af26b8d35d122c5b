"""Loading a pretrained encoder into a network, and saying how much of it was loaded.

Nothing is loaded in part in silence. torch's `load_state_dict(strict=False)` takes a file of which no name fits and
says nothing; the public code of the U-RISC paper loads CEM500K in this way, and matches no tensor. Here

    shapes        every tensor that the file and the encoder name alike must have one shape
    blocks        a block of the encoder (`conv1`, `bn1`, `layer3.5`, ...) gets tensors if the file has its stage at
                  all; what a block has besides, such as an attention of ours, stays as it was and is named
    other blocks  the file has none that the encoder lacks, unless the encoder lacks the whole stage (fewer stages)

and a file that breaks one of these is refused before anything is changed. Grey that was normalised otherwise than ours
is folded into the first convolution (`normalization`).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from emseg.errors import InputError, UsageError
from emseg.membrane.pretraining.encoder_files import STEM, EncoderFile, read_encoder_file
from emseg.membrane.pretraining.normalization import OURS, Normalization, fold_normalization

CEM500K_FILE = "cem500k_mocov2_resnet50_200ep.pth.tar"
CEM500K_RECORD = "Zenodo record 6453140"
N_SHOWN = 3
_STEM_MEAN = "bn1.running_mean"
_BLOCK = re.compile(r"layer\d+\.\d+|[^.]+")


@dataclass(frozen=True)
class LoadReport:
    """How much of an encoder came from a file.

    Of the encoder's `n_tensors` tensors `n_loaded` came from the file, `n_values` numbers in all; `kept` are those that
    the file has not, `unused` those that only the file has. `folded` is the normalisation of grey that was folded into
    the first convolution, None if it was ours already. `sha256` is the file's.
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
        """How many tensors the file has for an encoder; heads and momentum averages are not counted."""
        return self.n_loaded + len(self.unused)

    def __str__(self) -> str:
        text = (
            f"{self.n_loaded} of the encoder's {self.n_tensors} tensors ({self.n_values:,} values) loaded from the "
            f"{self.n_in_file} of {self.path.name} (format {self.format}, SHA-256 {self.sha256[:12]}...)"
        )
        if self.kept:
            text += f"; left as they were: {_some(self.kept)}"
        if self.unused:
            text += f"; not used: {_some(self.unused)}"
        if self.folded is not None:
            text += "; its normalisation of grey is folded into the first convolution, exact but at padded borders"
        return text + "."


def load_encoder(
    encoder: nn.Module, path: Path | str, *, normalization: Normalization | None = None, sha256: str | None = None
) -> LoadReport:
    """Load the encoder that a file holds (see `encoder_files`) into `encoder`, and say what was loaded.

    `normalization` says how grey was normalised when the file does not; `sha256` must be the file's digest, if given.
    Raises `InputError` for a file that cannot be read or does not fit; the encoder is then untouched.
    """
    return _load(encoder, read_encoder_file(path, sha256=sha256), normalization)


def load_cem500k(encoder: nn.Module, path: Path | str, *, sha256: str | None = None) -> LoadReport:
    """Load the CEM500K checkpoint into a ResNet-50 `encoder`; see `load_encoder`.

    The file is to be fetched by hand from Zenodo, which shows its MD5. Its SHA-256 is not known to this book: give it
    as `sha256` where you know it, or take it from the report of the first loading to pin the file from then on.
    """
    if not Path(path).is_file():
        raise InputError(
            f"there is no {path}. Get {CEM500K_FILE} from {CEM500K_RECORD} (EMPIAR-10592) and give its path, or "
            "pretrain on your own images with pretraining='moco'."
        )
    file = read_encoder_file(path, sha256=sha256)
    if file.format != "cem500k":
        raise InputError(
            f"{path} must be the CEM500K checkpoint, with `norms` beside a `state_dict` of module.encoder_q.*; it has "
            f"the format {file.format}. Load it with load_encoder."
        )
    return _load(encoder, file, None)


def load_pretrained(network: nn.Module, path: Path | str, *, sha256: str | None = None) -> LoadReport:
    """Load a file into the encoder of a network, `network.encoder`; see `load_encoder`."""
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise UsageError(f"a network to load an encoder into has `.encoder`; {type(network).__name__} has none.")
    return load_encoder(encoder, path, sha256=sha256)


def _load(encoder: nn.Module, file: EncoderFile, normalization: Normalization | None) -> LoadReport:
    own = encoder.state_dict()
    given, folded = _as_ours(file, normalization, own)
    matched = [name for name in own if name in given]
    _require_match(file, own, given, matched)
    broken = [name for name in matched if not torch.isfinite(given[name].float()).all()]
    if broken:
        raise InputError(f"{file.path} must hold finite weights; {_some(broken)} hold NaN or infinity.")
    encoder.load_state_dict({**own, **{name: given[name].to(own[name].dtype) for name in matched}})
    return LoadReport(
        path=file.path,
        format=file.format,
        n_loaded=len(matched),
        n_tensors=len(own),
        n_values=sum(own[name].numel() for name in matched),
        kept=tuple(name for name in own if name not in given),
        unused=tuple(name for name in given if name not in own),
        folded=folded,
        epoch=file.epoch,
        sha256=file.sha256,
    )


def _as_ours(
    file: EncoderFile, normalization: Normalization | None, own: dict[str, Tensor]
) -> tuple[dict[str, Tensor], Normalization | None]:
    """Return the file's tensors for grey as our networks see it, and the normalisation that was folded in."""
    given = dict(file.tensors)
    was = normalization or file.normalization
    stem, target = given.get(STEM), own.get(STEM)
    if stem is None or target is None or stem.ndim != 4 or target.shape[1] != 1 or was == OURS:
        return given, None
    if was is None:
        raise InputError(
            f"{file.path} does not say how its grey images were normalised. Give `normalization=Normalization((mean,), "
            "(std,))` of grey from 0 to 1."
        )
    if len(was.mean) != stem.shape[1]:
        raise InputError(
            f"{file.path} must have a mean and a std for each input channel of {STEM}; it has {len(was.mean)} for "
            f"{stem.shape[1]} channels."
        )
    if _STEM_MEAN not in given:
        raise InputError(f"{file.path} must hold {_STEM_MEAN}, the batch normalisation behind {STEM}; it does not.")
    given[STEM], given[_STEM_MEAN] = fold_normalization(stem, given[_STEM_MEAN], was)
    return given, was


def _require_match(file: EncoderFile, own: dict[str, Tensor], given: dict[str, Tensor], matched: Sequence[str]) -> None:
    if not matched:
        raise InputError(
            f"none of the {len(given)} tensors of {file.path} has the name of one of the encoder's {len(own)}: the "
            f"file has {_some(given)}; the encoder has {_some(own)}. Use the encoder that the file was made with."
        )
    differing = [name for name in matched if own[name].shape != given[name].shape]
    if differing:
        shapes = [f"{name} {tuple(given[name].shape)} for {tuple(own[name].shape)}" for name in differing]
        raise InputError(
            f"{len(differing)} of the {len(matched)} tensors that {file.path} and the encoder share have other shapes: "
            f"{_some(shapes)}. Use the encoder (depth, width, one channel) that the file was made with."
        )
    stages = {name.partition(".")[0] for name in given}
    own_stages = {name.partition(".")[0] for name in own}
    filled = {_block(name) for name in matched}
    empty = [name for name in own if _block(name) not in filled and name.partition(".")[0] in stages]
    spare = [name for name in given if _block(name) not in filled and name.partition(".")[0] in own_stages]
    for problem, names in (("lacks", empty), ("has besides", spare)):
        if names:
            raise InputError(
                f"{file.path} must be of an encoder of the same depth; it {problem} whole blocks, {len(names)} tensors "
                f"in all: {_some(names)}. Use the encoder that the file was made with."
            )
    missing_stages = sorted(own_stages - stages)
    if missing_stages:
        raise InputError(
            f"{file.path} must have every stage of the encoder; it has no {', '.join(missing_stages)}. "
            "Use the encoder that the file was made with."
        )


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    return found.group() if found else name


def _some(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - N_SHOWN} more" if len(every) > N_SHOWN else ""
    return ", ".join(every[:N_SHOWN]) + more
