"""Fetching, against a local server that cuts, alters, refuses and stays silent."""

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_sets.local_server import CONTENTS, Server, closed_address, make_dataset, write_dataset

from emseg.data import Patience, check, dataset_path, fetch
from emseg.errors import InputError, UsageError

HASTY = Patience(n_attempts=3, pause_s=0.0)
DEAF = replace(HASTY, read_timeout_s=0.3)  # for the tests of silence alone: a busy machine is slow to answer too
SECOND = "train/image/2.png"
STAND_IN = "emseg.synthetic.tissue.synthesize_tissue"


def files_under(folder: Path) -> dict[str, bytes]:
    """Every file under `folder`, temporary ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fetch_in_another_process(server: Server) -> subprocess.Popen[str]:
    """Start a Python that fetches the small set and prints its folder."""
    program = (
        "import signal\n"  # a shell's background job ignores interrupts, and its children with it
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from data_sets.local_server import make_dataset\n"
        "from emseg.data import fetch\n"
        f"print(fetch(make_dataset({server.base_url!r})))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True, env=environment)


def test_a_fetched_set_has_exactly_the_files_of_the_registry_byte_for_byte(server: Server, cache: Path) -> None:
    small = make_dataset(server.base_url)
    assert fetch(small, patience=HASTY) == cache / "small" == dataset_path(small)
    assert files_under(cache / "small") == CONTENTS
    assert check(small) == []


def test_a_second_fetch_asks_the_server_for_nothing(server: Server, cache: Path) -> None:
    small = make_dataset(server.base_url)
    fetch(small, patience=HASTY)
    server.requests.clear()
    fetch(small, patience=HASTY)
    assert server.requests == []


def test_several_files_are_fetched_at_once_but_never_more_than_asked(server: Server, cache: Path) -> None:
    fetch(make_dataset(server.base_url), patience=HASTY, n_parallel=2)
    assert server.n_open_at_most == 2


def test_the_server_is_told_who_asks(server: Server, cache: Path) -> None:
    fetch(make_dataset(server.base_url), patience=HASTY)
    assert [agent.startswith("emseg/") for agent in server.user_agents] == [True]


def test_a_cached_file_gets_the_permissions_of_any_new_file(server: Server, cache: Path, tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    fetched = fetch(make_dataset(server.base_url), patience=HASTY) / SECOND
    assert fetched.stat().st_mode == ordinary.stat().st_mode


def test_one_progress_bar_counts_all_bytes_on_stderr(
    server: Server, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.spoil(SECOND, "cut")  # the bytes of a failed attempt are not counted
    fetch(make_dataset(server.base_url), progress=True, patience=HASTY)
    captured = capsys.readouterr()
    total = f"{sum(map(len, CONTENTS.values())) / 1000:.0f}k"
    assert captured.out == ""
    assert re.search(rf"small, {len(CONTENTS)} files: 100%.*\| {total}/{total}", captured.err)
    assert "Downloading" not in captured.err


def test_nothing_is_shown_where_stderr_is_no_terminal(
    server: Server, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(make_dataset(server.base_url), patience=HASTY)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("mood", ["cut", "silent", 500, 503, 429])
def test_what_may_pass_is_tried_again(server: Server, cache: Path, mood: object) -> None:
    server.spoil(SECOND, mood, mood)
    fetch(make_dataset(server.base_url), patience=DEAF if mood == "silent" else HASTY)
    assert files_under(cache / "small") == CONTENTS
    assert server.asked()[SECOND] == 3


def test_a_connection_that_is_cut_each_time_is_named_as_truncation_and_leaves_no_half_file(
    server: Server, cache: Path
) -> None:
    small = make_dataset(server.base_url)
    server.spoil(SECOND, *["cut"] * 3)
    message = rf"{SECOND} failed 3 times \(truncated: .* before all 20,002 bytes were here, from {server.base_url}"
    with pytest.raises(InputError, match=message):
        fetch(small, patience=HASTY)
    kept = files_under(cache / "small")
    assert SECOND not in kept
    assert kept.items() <= CONTENTS.items()


def test_a_fetch_that_was_cut_goes_on_with_the_files_that_are_missing(server: Server, cache: Path) -> None:
    small = make_dataset(server.base_url)
    server.spoil(SECOND, *["cut"] * 3)
    with pytest.raises(InputError, match="run `emseg data fetch small` again to go on"):
        fetch(small, patience=HASTY, n_parallel=1)
    kept = set(files_under(cache / "small"))
    assert kept == {"train/image/0.png", "train/image/1.png"}  # one at a time, in the registry's order
    server.requests.clear()
    fetch(small, patience=HASTY)
    assert set(server.asked()) == set(CONTENTS) - kept
    assert set(server.asked().values()) == {1}


def test_altered_files_are_named_and_refused_and_the_others_kept(server: Server, cache: Path) -> None:
    server.spoil(SECOND, bytes(reversed(CONTENTS["wafer.magc"] * 100))[: len(CONTENTS[SECOND])])
    server.spoil("wafer.magc", CONTENTS["wafer.magc"].replace(b"\n", b"\r\n"))
    with pytest.raises(InputError, match=rf"{SECOND} is altered .*; wafer.magc is altered .*5 of 7 files are right"):
        fetch(make_dataset(server.base_url), patience=HASTY)
    assert files_under(cache / "small") == {
        path: content for path, content in CONTENTS.items() if path not in (SECOND, "wafer.magc")
    }
    assert server.asked()[SECOND] == 1  # asking again would bring the same


@pytest.mark.parametrize("sent", [b"<html>Please log in</html>", "endless"])
def test_a_page_in_place_of_the_file_is_refused(server: Server, cache: Path, sent: object) -> None:
    server.spoil(SECOND, sent)
    with pytest.raises(InputError, match=rf"{SECOND} is altered .* bytes instead of 20,002"):
        fetch(make_dataset(server.base_url), patience=HASTY)
    assert SECOND not in files_under(cache / "small")


def test_a_damaged_file_of_the_cache_is_fetched_again_and_only_that(server: Server, cache: Path) -> None:
    write_dataset(cache / "small")
    (cache / "small" / SECOND).write_bytes(b"short")
    fetch(make_dataset(server.base_url), patience=HASTY)
    assert server.asked() == {SECOND: 1}
    assert files_under(cache / "small") == CONTENTS


def test_a_file_that_the_server_does_not_have_is_named_with_its_address(server: Server, cache: Path) -> None:
    del server.contents[f"/pinned/upstream/{SECOND}"]
    with pytest.raises(InputError, match=rf"{SECOND} is not where .* {server.base_url}upstream/{SECOND} answered 404"):
        fetch(make_dataset(server.base_url), patience=HASTY)
    assert server.asked()[SECOND] == 1


def test_the_next_source_is_asked_where_the_first_has_no_such_file(server: Server, cache: Path) -> None:
    fetch(make_dataset(server.base_url.replace("pinned", "gone"), server.base_url), patience=HASTY)
    assert files_under(cache / "small") == CONTENTS


def test_a_server_that_stays_silent_is_named_as_silent(server: Server, cache: Path) -> None:
    server.spoil(SECOND, *["silent"] * 3)
    with pytest.raises(InputError, match=rf"{SECOND} failed 3 times \(no byte for 0\.3 s, from"):
        fetch(make_dataset(server.base_url), patience=DEAF)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (closed_address(), r"127\.0\.0\.1 cannot be reached \(Connection refused\): "),
        ("http://no-such-host.invalid/", r"no-such-host\.invalid cannot be reached \(its name is not known"),
    ],
    ids=["refused", "no such host"],
)
def test_offline_is_one_sentence_that_names_the_stand_in_and_comes_at_once(
    cache: Path, source: str, reason: str
) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError, match=reason) as caught:
        fetch(make_dataset(source))  # with the patience of a real fetch
    assert time.perf_counter() - start < 5
    message = str(caught.value)
    assert STAND_IN in message
    assert "EMSEG_DATA" in message
    assert len(re.findall(r"[.!?](?:\s|$)", message)) == 1
    assert files_under(cache) == {}


def test_with_emseg_data_set_nothing_is_downloaded(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMSEG_DATA", str(tmp_path))
    small = make_dataset(server.base_url)
    with pytest.raises(InputError, match="contains no small"):
        fetch(small)
    write_dataset(tmp_path / "small")
    assert fetch(small) == tmp_path / "small"
    assert server.requests == []


def test_two_processes_that_fetch_the_same_set_at_once_leave_it_right(server: Server, cache: Path) -> None:
    processes = [fetch_in_another_process(server) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert printed == [f"{cache / 'small'}\n"] * 2
    assert files_under(cache / "small") == CONTENTS


def test_an_interrupt_ends_a_fetch_soon_and_leaves_no_temporary_file(server: Server, cache: Path) -> None:
    for path in CONTENTS:
        server.spoil(path, "slow")
    process = fetch_in_another_process(server)
    while not server.requests:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=10)[1]
    assert "KeyboardInterrupt" in errors
    assert process.returncode != 0
    whole = {f"small/{path}": content for path, content in CONTENTS.items()}  # one may just have come through
    assert files_under(cache).items() <= whole.items()


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_open = Path.open

    def open_on_full_disk(path: Path, mode: str = "r", *arguments: Any) -> Any:
        stream: Any = plain_open(path, mode, *arguments)
        if "w" in mode and path.is_relative_to(cache):
            stream.write(b"the first bytes fit")

            def refuse(_: bytes) -> int:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

            stream.write = refuse
        return stream

    monkeypatch.setattr(Path, "open", open_on_full_disk)
    with pytest.raises(InputError, match=r"cannot write small .*No space left on device.*0\.1 MB more.*EMSEG_CACHE"):
        fetch(make_dataset(server.base_url), patience=HASTY)
    assert files_under(cache) == {}


def test_a_read_only_cache_is_one_sentence(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    (cache / "small").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(InputError, match=rf"^cannot write small to {cache / 'small'} \(Permission denied\): it takes"):
        fetch(make_dataset(server.base_url), patience=HASTY)


def test_a_cache_that_is_a_file_is_one_sentence(
    server: Server, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a file").touch()
    monkeypatch.setenv("EMSEG_CACHE", str(tmp_path / "a file"))
    with pytest.raises(InputError, match=r"cannot write small .*\(Not a directory\)"):
        fetch(make_dataset(server.base_url), patience=HASTY)


@pytest.mark.parametrize("wrong", [{"n_attempts": 0}, {"pause_s": -1.0}, {"read_timeout_s": 0.0}])
def test_impossible_patience_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Patience(**wrong)  # type: ignore[arg-type]


def test_no_worker_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="`n_parallel` must be a whole number of at least 1; got 0"):
        fetch("isbi2012", n_parallel=0)
