"""The ground floor's files: whole or not there, digests that tell contents apart, the root of the checkout."""

import hashlib
import os
import pickle

import numpy as np
import pytest

from emseg.errors import InputError
from emseg.files import (
    atomic_path,
    digest_of,
    digest_of_array,
    digest_of_file,
    find_root,
    read_json,
    write_atomically,
    write_json,
)


def test_a_file_is_written_whole_in_a_new_folder(tmp_path):
    write_atomically(tmp_path / "a" / "text.txt", "µm")
    assert (tmp_path / "a" / "text.txt").read_text(encoding="utf-8") == "µm"
    write_atomically(tmp_path / "bytes", lambda file: file.write(b"\x00\x01"))
    assert (tmp_path / "bytes").read_bytes() == b"\x00\x01"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.txt"
    write_atomically(path, "old")

    def fail(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["kept.txt"]  # noqa: PTH208  # hidden files count


def test_a_write_that_cannot_be_made_states_cause_and_repair(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"could not be written: .*\. Choose another folder\."):
        write_atomically(tmp_path / "file" / "below", "x", repair="Choose another folder.")
    with pytest.raises(InputError, match="could not be written"), atomic_path(tmp_path / "nothing"):
        pass  # nothing was written to the temporary path


def test_json_comes_back_as_it_was_and_damage_is_reported(tmp_path):
    write_json(tmp_path / "a.json", {"größe": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"größe": [1, 2.5, None]}
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(InputError, match=r"b\.json is not valid JSON"):
        read_json(tmp_path / "b.json")
    with pytest.raises(InputError, match=r"c\.json does not exist"):
        read_json(tmp_path / "c.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"deep\.json is not valid JSON"):
        read_json(tmp_path / "deep.json")


def test_digests_tell_parts_types_and_shapes_apart(tmp_path):
    assert digest_of("ab", "c") != digest_of("a", "bc")
    zeros = np.zeros((2, 3), np.float32)
    assert digest_of_array(zeros) == digest_of_array(np.asfortranarray(zeros))
    assert digest_of_array(zeros) != digest_of_array(zeros.T)
    assert digest_of_array(zeros) != digest_of_array(zeros.view(np.int32))
    (tmp_path / "f").write_bytes(b"abc")
    assert digest_of_file(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


def test_the_root_is_the_nearest_folder_with_a_book(tmp_path, monkeypatch):
    monkeypatch.delenv("EMSEG_PROJECT", raising=False)
    (tmp_path / "book" / "deep").mkdir(parents=True)
    (tmp_path / "_toc.yml").touch()
    assert find_root(tmp_path / "book" / "deep") == tmp_path
    monkeypatch.setenv("EMSEG_PROJECT", str(tmp_path / "book"))
    with pytest.raises(InputError, match="EMSEG_PROJECT must name the folder"):
        find_root()


def test_a_refusal_is_one_line_whatever_is_in_the_name(tmp_path):
    with pytest.raises(InputError) as caught:
        read_json(tmp_path / "two\nlines.json")
    assert str(caught.value).endswith("two lines.json does not exist. Check the name and the folder.")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
