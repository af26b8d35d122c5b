"""The registry, the places where data sets lie, and the verification of what lies there."""

import importlib
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from data_sets.local_server import CONTENTS, make_dataset, write_dataset

from emseg.data import DataFile, Problem, check, dataset, dataset_path, datasets, fingerprint, folder_of, state
from emseg.data.registry import parse_entry, read_registry
from emseg.errors import InputError, UsageError

SHA256 = "0" * 64
TOOL = Path(__file__).resolve().parents[2] / "tools" / "registry.py"
registry_from = runpy.run_path(str(TOOL))["registry_from"]


def test_the_registry_lists_both_data_sets_with_the_files_that_their_authors_publish() -> None:
    assert set(datasets()) == {"isbi2012", "magc_wafer"}
    paths = [file.path for file in dataset("isbi2012").files]
    assert paths == [
        f"{folder}/{number}.png" for folder in ("train/image", "train/label", "test/image") for number in range(30)
    ]
    assert {Path(file.path).suffix for file in dataset("magc_wafer").files} == {".jpg", ".magc", ".json"}


def test_every_address_is_pinned_to_a_commit_and_goes_over_tls() -> None:
    for entry in datasets().values():
        for file in entry.files:
            for url in entry.urls(file):
                assert re.fullmatch(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/[0-9a-f]{8,40}/\S+", url)
    assert dataset("isbi2012").urls(dataset("isbi2012").files[60])[0].endswith("/data/membrane/test/0.png")


def test_every_stand_in_that_is_promised_can_be_imported() -> None:
    for entry in datasets().values():
        assert entry.stand_in is None or entry.stand_in in entry.stand_in_note
        for dotted in re.findall(r"emseg(?:\.\w+)+", entry.stand_in_note):
            module, name = dotted.rsplit(".", maxsplit=1)
            assert callable(getattr(importlib.import_module(module), name))


@pytest.mark.parametrize(
    ("name", "message"), [("isbi2021", "Did you mean 'isbi2012'"), ("cem500k", "There are: isbi2012, magc_wafer")]
)
def test_a_misspelt_name_gets_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataset(name)


@pytest.mark.parametrize(
    ("path", "n_bytes", "sha256"),
    [("../outside", 1, SHA256), ("/absolute", 1, SHA256), ("", 1, SHA256), ("empty", 0, SHA256), ("short", 1, "abc")],
)
def test_a_file_entry_that_cannot_be_right_is_refused(path: str, n_bytes: int, sha256: str) -> None:
    with pytest.raises(ValueError, match="must"):
        DataFile(path, "upstream", n_bytes, sha256)


@pytest.mark.parametrize(
    ("field", "value"), [("name", "../x"), ("kind", "synthetic"), ("sources", ("http://x",)), ("files", ())]
)
def test_a_set_entry_that_cannot_be_right_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        replace(make_dataset(), **{field: value})  # type: ignore[arg-type]


def test_the_fingerprint_depends_on_every_file_and_on_nothing_else() -> None:
    small = make_dataset()
    elsewhere = replace(small, title="elsewhere", sources=("http://elsewhere/",), files=small.files[::-1])
    assert fingerprint(elsewhere) == fingerprint(small)
    prints = {fingerprint(replace(small, files=small.files[:n] + small.files[n + 1 :])) for n in range(7)}
    assert len(prints | {fingerprint(small)}) == 8


def test_the_state_changes_with_every_write_and_is_absent_without_files(cache: Path) -> None:
    small = make_dataset()
    assert state(small) == "absent"
    (cache / "small").mkdir(parents=True)
    assert state(small) == "absent"
    write_dataset(cache / "small")
    first = state(small)
    assert state(small) == first
    (cache / "small" / "notes.txt").write_text("no file of the registry")
    assert state(small) == first
    os.utime(cache / "small" / "wafer.magc", ns=(1, 1))
    second = state(small)
    (cache / "small" / "wafer.magc").unlink()
    assert len({first, second, state(small), "absent"}) == 4


def test_emseg_data_wins_over_the_cache_and_an_empty_value_counts_as_unset(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make_dataset()
    for root in (cache, tmp_path / "own"):
        write_dataset(root / "small")
    assert dataset_path(small) == cache / "small"
    monkeypatch.setenv("EMSEG_DATA", str(tmp_path / "own"))
    assert dataset_path(small) == tmp_path / "own" / "small"
    monkeypatch.setenv("EMSEG_DATA", "")
    assert dataset_path(small) == cache / "small"


def test_a_set_that_emseg_data_lacks_is_an_error_even_when_it_is_cached(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = make_dataset()
    write_dataset(cache / "small")
    monkeypatch.setenv("EMSEG_DATA", str(tmp_path))
    with pytest.raises(InputError, match=rf"EMSEG_DATA is {tmp_path}, which contains no small: put its files in"):
        dataset_path(small)


@pytest.mark.parametrize("make", [Path.touch, None])
def test_emseg_data_that_is_no_folder_is_named(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None] | None
) -> None:
    root = tmp_path / "elsewhere"
    if make is not None:
        make(root)
    monkeypatch.setenv("EMSEG_DATA", str(root))
    assert state(make_dataset()) == "absent"
    for ask in (dataset_path, check):
        with pytest.raises(InputError, match=rf"EMSEG_DATA must name a folder .* {root} is not a folder"):
            ask(make_dataset())


def test_a_set_that_is_not_here_says_how_to_get_it_and_what_stands_in(cache: Path) -> None:
    with pytest.raises(InputError, match=r"run `emseg data fetch small`.*EMSEG_DATA.*tissue\.synthesize"):
        dataset_path(make_dataset())
    assert not cache.exists()


def test_the_cache_folder_of_the_operating_system_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMSEG_DATA", raising=False)
    monkeypatch.delenv("EMSEG_CACHE", raising=False)
    folder = folder_of("isbi2012")
    assert folder.is_absolute()
    assert folder.parts[-1] == "isbi2012"
    assert "emseg" in folder.parts


FIRST = "train/image/0.png"
DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("missing", lambda path: path.unlink(), ""),
    ("missing", lambda path: (path.unlink(), path.mkdir()), "something else has its name"),
    ("truncated", lambda path: path.write_bytes(CONTENTS[FIRST][:-1]), "19,999 of 20,000 bytes"),
    ("truncated", lambda path: path.write_bytes(b""), "0 of 20,000 bytes"),
    ("altered", lambda path: path.write_bytes(CONTENTS[FIRST] + b"x"), "20,001 bytes instead of 20,000"),
    ("altered", lambda path: path.write_bytes(CONTENTS[FIRST][:-1] + b"x"), "SHA-256"),
]


@pytest.mark.parametrize(("kind", "damage", "detail"), DAMAGES)
@pytest.mark.parametrize("where", ["cache", "EMSEG_DATA"])
def test_each_damaged_file_is_named_by_check_and_refused_by_path(
    cache: Path, monkeypatch: pytest.MonkeyPatch, where: str, kind: str, damage: Callable[[Path], object], detail: str
) -> None:
    small = make_dataset()
    write_dataset(cache / "small")
    if where == "EMSEG_DATA":
        monkeypatch.setenv("EMSEG_DATA", str(cache))
    assert check(small) == []
    damage(cache / "small" / FIRST)
    (problem,) = check(small)
    assert (problem.path, problem.kind) == (FIRST, kind)
    assert detail in problem.detail
    repair = "run `emseg data fetch small`" if where == "cache" else "replace them, or unset EMSEG_DATA"
    with pytest.raises(InputError, match=rf"cannot be used: {FIRST} is {kind}.*{repair}"):
        dataset_path(small)


def test_many_damaged_files_are_all_in_check_and_counted_in_the_error(cache: Path) -> None:
    small = make_dataset()
    write_dataset(cache / "small")
    for number in range(1, 6):
        (cache / "small" / f"train/image/{number}.png").unlink()
    assert check(small) == [Problem(f"train/image/{number}.png", "missing") for number in range(1, 6)]
    with pytest.raises(InputError, match=r"1\.png is missing; .*3\.png is missing; and 2 more; run"):
        dataset_path(small)


def test_importing_the_package_loads_no_network_library() -> None:
    heavy = ("pooch", "requests", "urllib3", "numpy", "torch", "tqdm")
    program = f"import sys, emseg.data; print([name for name in {heavy} if name in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "[]\n"


def test_the_registry_is_made_from_the_files_in_natural_order(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        (tmp_path / "a" / f"{number}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.png").write_bytes(bytes([number]))
    entry = read_registry()["isbi2012"] | {"layout": {".": "upstream"}}
    made = registry_from(tmp_path, {"a": entry})
    assert [file.path for file in parse_entry("a", made["a"]).files] == ["1.png", "2.png", "10.png"]
    with pytest.raises(InputError, match=r"layout names the folder .* does not exist"):
        registry_from(tmp_path, {"b": entry})


@pytest.mark.real_data
@pytest.mark.skipif("not os.environ.get('EMSEG_DATA')", reason="EMSEG_DATA is not set: the real files are not checked")
def test_the_registry_is_that_of_the_real_files() -> None:
    assert registry_from(Path(os.environ["EMSEG_DATA"]), read_registry()) == read_registry()
    assert [check(name) for name in datasets()] == [[], []]
