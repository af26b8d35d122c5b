"""Feed mutated files to every public reader in one process: each gives a result or a sentence of ours.

    python tests/fuzz_readers.py [--n 10000] [--seed 0] [--only NAME] [--keep FOLDER]

A failure is any exception but `InputError` and `UsageError` (a subclass of ValueError each), more than one second of
processor time for one file, or more than 1 GiB of memory above what the imports take. Failures are printed with the
reader, the number of the input and the exception; --keep writes the inputs that failed. Exit code 1 if any failed.
"""

import argparse
import copy
import faulthandler
import io
import json
import logging
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import mrcfile
import numpy as np
import roifile
import tifffile
import zarr
from PIL import Image
from wafer.test_mass_json import SMALL

from emseg.errors import InputError, UsageError
from emseg.files import read_json
from emseg.images import count_pages, image_size, read_gray
from emseg.membrane.dataset.folder_set import read_statement
from emseg.membrane.dataset.labels import read_label
from emseg.membrane.scoring.score_files import read_prediction
from emseg.runs.gathering import read_record
from emseg.runs.parameters import load_mapping
from emseg.wafer.annotated_wafer import read_annotated_wafer, read_wafer_image
from emseg.wafer.formats.coco import read_coco
from emseg.wafer.formats.magc import read_magc
from emseg.wafer.formats.mass_json import read_mass_json
from emseg.wafer.scores.coco_masks import read_detections, read_truth

SECONDS, HANGS_AFTER = 1.0, 30
BYTES = 2**30
ROOT = Path(__file__).resolve().parents[1]
SEEDED = np.random.default_rng(0)
GREY = SEEDED.integers(0, 256, (24, 32), dtype=np.uint8)
LABEL = np.where(SEEDED.random((24, 32)) < 0.2, 0, 255).astype(np.uint8)


class TooSlowError(BaseException):
    """Not an `Exception`, which the readers' guard would turn into a sentence."""


class Reader(NamedTuple):
    """A reader, the name that its file must have, and whole files that it reads."""

    name: str
    file: str
    read: Callable[[Path], object]
    seeds: list[bytes]


def every_page(path: Path) -> None:
    """Use the readers of images in the ways the commands do."""
    image_size(path, page=0)
    for page in range(min(count_pages(path), 3)):
        for options in ({"as_label": True}, {"memory_map": True}, {}):
            np.asarray(read_gray(path, page=page, **options)).max()


def any_label(path: Path) -> None:
    """Read a label whose membrane is dark or bright."""
    try:
        read_label(path)
    except InputError as error:
        if "looks inverted" not in str(error):
            raise
        read_label(path, dark=False)


def images() -> dict[str, list[bytes]]:
    """Return small image files of every format and layout by the ending of their name."""

    def pillow(image: Image.Image, kind: str, **options: Any) -> bytes:
        image.save(buffer := io.BytesIO(), kind, **options)
        return buffer.getvalue()

    def tiff(image: np.ndarray, **options: Any) -> bytes:
        tifffile.imwrite(buffer := io.BytesIO(), image, **{"photometric": "minisblack", **options})
        return buffer.getvalue()

    grey, colour = Image.fromarray(GREY), np.stack([GREY] * 3, -1)
    exif = Image.Exif()
    exif[274] = 6
    codecs = ("zlib", "zstd", "lzw", "packbits", "jpeg2000", "lerc", "jpegxl", "lzma", "jpeg")
    stack = np.stack([GREY, LABEL, GREY])
    tiffs = [tiff(GREY), tiff(GREY.astype(">u2"), byteorder=">"), tiff(GREY, bigtiff=True), tiff(GREY, tile=(16, 16))]
    tiffs += [tiff(GREY, compression=codec) for codec in codecs]
    tiffs += [tiff(stack), tiff(stack, imagej=True), tiff(stack, ome=True), tiff(stack, imagej=True, truncate=True)]
    tiffs += [tiff(colour, photometric="rgb"), tiff(LABEL == 0), pillow(grey.convert("P"), "TIFF")]
    tiffs += [
        pillow(grey.convert("1"), "TIFF", compression="group4"),
        tiff(GREY / np.float32(255), predictor=3, compression="zlib"),
    ]
    pngs = [
        grey,
        Image.fromarray(GREY.astype(np.uint16)),
        Image.fromarray(colour),
        grey.convert("P"),
        grey.convert("1"),
    ]
    np.save(array := io.BytesIO(), stack)
    with tempfile.TemporaryDirectory() as folder, mrcfile.new(Path(folder) / "a.mrc") as file:
        file.set_data(stack.astype(np.int16))
        file.flush()
        mrc = (Path(folder) / "a.mrc").read_bytes()
    others = [
        ("JPEG", "jpg", {"exif": exif}),
        ("BMP", "bmp", {}),
        ("PPM", "pgm", {}),
        ("WEBP", "webp", {"lossless": True}),
        ("JPEG2000", "jp2", {}),
    ]
    found = {suffix: [pillow(grey, kind, **options)] for kind, suffix, options in others}
    return found | {
        "tif": tiffs,
        "png": [pillow(one, "PNG", exif=exif) for one in pngs],
        "npy": [array.getvalue()],
        "mrc": [mrc],
    }


def labels() -> list[bytes]:
    """Return label files of several codings."""
    found = []
    for image in (
        LABEL,
        LABEL // 255,
        (LABEL == 0).astype(np.uint16),
        LABEL / np.float32(255),
        LABEL.astype(np.int32),
        LABEL == 0,
    ):
        tifffile.imwrite(buffer := io.BytesIO(), image, photometric="minisblack")
        found.append(buffer.getvalue())
    return found


def zarr_reader(folder: Path) -> Reader:
    """Return the reader of zarr arrays; what is mutated is their description."""
    array = zarr.create_array(folder / "seed.zarr", shape=(3, *GREY.shape), dtype="u1")
    array[:] = np.stack([GREY] * 3)

    def read(path: Path) -> None:
        place = path.parent / "copy.zarr"
        shutil.copytree(folder / "seed.zarr", place, dirs_exist_ok=True)
        shutil.copy(path, place / "zarr.json")
        every_page(place)

    return Reader("zarr", "zarr.json", read, [(folder / "seed.zarr" / "zarr.json").read_bytes()])


def annotations() -> dict[str, list[bytes]]:
    """Return annotation files of two sections in every format, by a name that each kind of file has."""
    outlines = [[[5, 2], [12, 3], [11, 8], [4, 7]], [[20, 12], [26, 12], [25, 17], [19, 16]]]
    flat = [[float(c) for point in outline for c in point] for outline in outlines]
    rle = {"size": [24, 32], "counts": [100, 5, 19, 5, 639]}
    coco = {
        "images": [{"id": 1, "file_name": "wafer.png", "width": 32, "height": 24}],
        "annotations": [
            {"id": k, "image_id": 1, "category_id": 1, "segmentation": one, "iscrowd": 0}
            for k, one in enumerate(([flat[0]], [flat[1]], rle))
        ],
        "categories": [{"id": 1, "name": "section"}],
    }
    kinds = ("polygon", "rotation")
    shapes = [
        {"label": "section", "points": one, "group_id": 1, "shape_type": kind}
        for one, kind in zip(outlines, kinds, strict=True)
    ]
    labelme = {"version": "5", "shapes": shapes, "imagePath": "wafer.png", "imageHeight": 24, "imageWidth": 32}
    shape = {"name": "polygon", "all_points_x": [5, 12, 11, 4], "all_points_y": [2, 3, 8, 7]}
    region = {"shape_attributes": shape, "region_attributes": {"label": "section"}}
    via = {"wafer.png1": {"filename": "wafer.png", "size": 1, "regions": [region]}}
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*one, one[0]]]}, "properties": {}}
        for one in outlines
    ]
    yolo = "".join("0 " + " ".join(f"{x / 32:.6f} {y / 24:.6f}" for x, y in one) + "\n" for one in outlines)
    rois = [roifile.ImagejRoi.frompoints(np.array(one, np.float32)) for one in outlines]
    with tempfile.TemporaryDirectory() as folder:
        roifile.roiwrite(Path(folder) / "a.zip", rois)
        archive = (Path(folder) / "a.zip").read_bytes()

    def magc(name: str, order: str) -> bytes:
        sections = "".join(
            f"[{name.format(k)}]\npolygon = {','.join(map(str, flat[k]))}\ncenter = 8,5\narea = 30\nangle = 90\n\n"
            for k in (0, 1)
        )
        return f"[sections]\nnumber = 2\n\n{sections}[end_sections]\n\n[{order}]\n{order} = 1,0\n".encode()

    return {
        "coco.json": [json.dumps(coco).encode()],
        "labelme.json": [json.dumps(labelme).encode()],
        "wafer.magc": [magc("sections.{:04d}", "serialorder"), magc("section.{:04d}", "serial_order")],
        "a.mass.json": [json.dumps(SMALL).encode()],
        "via.json": [json.dumps(via).encode()],
        "qupath.geojson": [json.dumps({"type": "FeatureCollection", "features": features}).encode()],
        "yolo.txt": [yolo.encode()],
        "rois.zip": [archive],
        "one.roi": [rois[0].tobytes()],
    }


def readers(folder: Path) -> list[Reader]:
    """Return every public reader of files that a user may hand over."""
    import torch

    from emseg.membrane.networks import NetworkDesign, build_network, load_network, save_network
    from emseg.membrane.pretraining import load_encoder

    found = [Reader(f"image {suffix}", f"a.{suffix}", every_page, seeds) for suffix, seeds in images().items()]
    found.append(zarr_reader(folder))
    label_files = labels()
    found.append(Reader("label", "label.tif", any_label, label_files))
    found.append(Reader("prediction", "p.tif", lambda path: read_prediction(path, "bright"), label_files))
    found.append(Reader("wafer image", "w.png", read_wafer_image, images()["png"]))
    Image.fromarray(GREY).save(folder / "wafer.png")
    direct: dict[str, Callable[[Path], object]]
    direct = {"coco.json": read_coco, "wafer.magc": read_magc, "a.mass.json": read_mass_json}
    for name, seeds in annotations().items():
        found.append(
            Reader(f"wafer {name}", name, lambda path: read_annotated_wafer(folder / "wafer.png", path), seeds)
        )
        found += [Reader(name, name, direct[name], seeds)] if name in direct else []
    truth = read_truth(json.loads(annotations()["coco.json"][0]))
    results = [
        {"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": {"size": [24, 32], "counts": [100, 5, 663]}}
    ]
    found.append(Reader("truth", "coco.json", read_truth, annotations()["coco.json"]))
    result_file = json.dumps(results).encode()
    found.append(Reader("detections", "results.json", lambda path: read_detections(path, truth), [result_file]))
    found.append(Reader("JSON", "a.json", read_json, [b'{"a": [1, 2.5, null, "x"], "b": {"c": true}}', b"[" * 5000]))
    statement = {"name": "cortex", "pixel_size_nm": 8, "kind": "real", "membrane": "bright"}
    found.append(
        Reader("set.json", "set.json", lambda path: read_statement(path.parent), [json.dumps(statement).encode()])
    )
    yaml = b"learning_rate: 1e-3\nseed: 010\nn_steps: 5\nnames: [a, b]\nnested: {a: 1}\n"
    found.append(Reader("parameters", "p.yaml", load_mapping, [yaml]))
    records = sorted((ROOT / "book" / "results").rglob("*.json"), key=lambda path: path.stat().st_size)[:3]
    found.append(Reader("record", "record.json", read_record, [path.read_bytes() for path in records]))
    design = NetworkDesign(encoder="plain", encoder_depth=2, base_channels=8)
    save_network(build_network(design, seed=0), folder / "network.safetensors")
    encoder = build_network(NetworkDesign(encoder="resnet18", base_channels=8, encoder_depth=2), seed=0).encoder
    torch.save({"epoch": 3, "state_dict": encoder.state_dict(), "norms": [0.5, 0.1]}, folder / "encoder.pth")
    checkpoint = (folder / "encoder.pth").read_bytes()
    found.append(Reader("checkpoint", "c.pth", lambda path: load_encoder(encoder, path), [checkpoint]))
    found.append(Reader("network", "n.safetensors", load_network, [(folder / "network.safetensors").read_bytes()]))
    return found


def other_values(content: bytes, rng: random.Random) -> bytes:
    """Return a JSON text in which one to three values are of another type or size, missing, or there twice."""
    document = [json.loads(content)]
    odd = (
        None,
        True,
        -1,
        0,
        2**70,
        1e308,
        float("nan"),
        0.5,
        "",
        "x",
        "\u00b2",
        [],
        {},
        [[]],
        [None],
        {"a": []},
        [1, "b"],
    )
    for _ in range(rng.choice((1, 1, 3))):
        holder: Any = document
        while True:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = rng.choice(keys)
            inner = holder[key]
            if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.15:
                break
            holder = inner
        if rng.random() < 0.2 and holder is not document:
            del holder[key]
        elif rng.random() < 0.1 and isinstance(holder, list):
            holder.append(copy.deepcopy(inner))
        else:
            holder[key] = copy.deepcopy(rng.choice(odd))
        if not holder:
            break
    return json.dumps(document[0]).encode()


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Return the content after one to four damages: cut, overwritten, repeated, moved, or with other numbers."""
    if content[:1] == b"{" and rng.random() < 0.7:
        return other_values(content, rng)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not data:
            break
        place, kind = rng.randrange(len(data)), rng.randrange(8)
        if rng.random() < 0.5:  # headers decide more than pixels
            place = rng.randrange(min(len(data), 400))
        length = rng.choice((1, 2, 4, 8, 40))
        if kind == 0:
            del data[place:]
        elif kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 3:
            extreme = rng.choice((0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 10**6))
            data[place : place + 4] = struct.pack(rng.choice(("<I", ">I")), extreme)
        elif kind == 4:
            del data[place : place + length]
        elif kind == 5:
            data[place:place] = data[place : place + length] * rng.choice((1, 3, 50))
        elif kind == 6:
            source = rng.randrange(len(data))
            data[place : place + length] = data[source : source + length]
        else:
            words = (
                b"-1",
                b"1e999",
                b"NaN",
                b"null",
                b"[]",
                b"{}",
                b'""',
                b"9" * 5000,
                b"\xff\xfe",
                b"\x00",
                "\u00b2".encode(),
                b"true",
            )
            data[place : place + length] = rng.choice(words)
    return bytes(data)


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `TooSlowError` when the block takes more processor time; end the process when it hangs."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"more than {seconds:g} s")

    previous = signal.signal(signal.SIGPROF, stop)
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGPROF, previous)


def failure_of(reader: Reader, path: Path, seconds: float = SECONDS) -> str | None:
    """Return what a reader should not have done with a file, or None."""
    try:
        with limited(seconds):
            reader.read(path)
    except (InputError, UsageError) as error:
        return None if "\n" not in str(error) else f"a sentence of several lines: {error}"
    except (Exception, TooSlowError) as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzz; print a line for each failure and a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="readers whose name contains this")
    parser.add_argument("--keep", type=Path, help="where to write the inputs that failed")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    rng, failures, started = random.Random(options.seed), 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chosen = [reader for reader in readers(folder) if options.only in reader.name]
        for one, seed in [(reader, seed) for reader in chosen for seed in reader.seeds]:
            (folder / one.file).write_bytes(seed)
            failure_of(one, folder / one.file, 60)  # what is imported and compiled once belongs to no input
        before = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (before + BYTES, resource.RLIM_INFINITY))
        for number in range(options.n):
            reader = chosen[number % len(chosen)]
            content = mutated(rng.choice(reader.seeds), rng)
            path = folder / reader.file
            path.write_bytes(content)
            if (what := failure_of(reader, path)) is not None:
                failures += 1
                print(f"{reader.name} {number}: {what}", flush=True)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{number}_{reader.file}").write_bytes(content)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    seconds = time.monotonic() - started
    print(f"{options.n} inputs, {len(chosen)} readers, {failures} failures, {seconds:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
