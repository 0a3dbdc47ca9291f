"""What a source names, and what of it is read: folders as git sees them, every kind of file, damage."""

import gzip
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import fsspec
import numpy as np
import numpy.typing as npt
import pytest
import zstandard

from retrieval_draft.errors import FailedPrecondition, InvalidInput, Unreachable
from retrieval_draft.warming import documents as bounds
from retrieval_draft.warming.documents import Document, Ids, Text
from retrieval_draft.warming.fields import Fields
from retrieval_draft.warming.files import files_of
from retrieval_draft.warming.formats import Formats
from retrieval_draft.warming.sources import Reading, extent_of

VOCAB = 500


def read(
    *sources: object, fields: Sequence[str] = (), id_type: str | None = None
) -> tuple[list[Document], dict[str, str]]:
    """All documents, and what was left out with the reason."""
    formats = Formats(Fields(tuple(fields)), VOCAB, id_type=id_type)
    reading = Reading([str(source) for source in sources], formats)
    found = list(reading.documents())
    return found, {one.name: one.reason for one in reading.skipped}


def texts(*sources: object, fields: Sequence[str] = ()) -> list[str]:
    found, skipped = read(*sources, fields=fields)
    assert not skipped
    return [one.text for one in found if isinstance(one, Text)]


def ids(*sources: object, id_type: str | None = None) -> list[list[int]]:
    found, skipped = read(*sources, id_type=id_type)
    assert not skipped
    return [one.ids.tolist() for one in found if isinstance(one, Ids)]


def put(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


TREE = {
    ".gitignore": "*.log\nbuild/\n/only_here.txt\n!kept.log\n# a comment\nsub/*.tmp\n",
    "a.py": "a",
    "b.log": "b",
    "kept.log": "k",
    "only_here.txt": "o",
    "build/x.py": "x",
    "sub/.gitignore": "!again.log\n*.md\n",
    "sub/again.log": "s",
    "sub/other.log": "s",
    "sub/notes.md": "n",
    "sub/only_here.txt": "s",
    "sub/one.tmp": "t",
    "sub/deep/one.tmp": "t",
    "sub/deep/build/y.py": "y",
    "sub/deep/notes.md": "n",
    "space and ü.py": "u",
}


def test_a_folder_has_the_files_that_git_would_take(tmp_path: Path) -> None:
    put(tmp_path, TREE)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    words = ["git", "-C", str(tmp_path), "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    expected = {name for name in listed.split("\0") if name and ".gitignore" not in name}
    found = {str(Path(file.name).relative_to(tmp_path)) for file in files_of([str(tmp_path)])}
    assert found == expected
    assert {"kept.log", "sub/again.log", "sub/deep/one.tmp"} <= found


def test_rules_of_parents_hold_up_to_the_repository_but_not_for_what_is_named(
    tmp_path: Path,
) -> None:
    put(
        tmp_path,
        {".gitignore": "*.py\n", "repo/.git/HEAD": "", **{f"repo/{n}": c for n, c in TREE.items()}},
    )
    assert texts(tmp_path / "repo" / "sub") == [
        "s",
        "t",
        "s",
    ]  # again.log, deep/one.tmp, only_here.txt
    assert texts(tmp_path / "repo" / "build") == ["x"]
    assert texts(tmp_path / "repo" / "b.log") == ["b"]


def test_hidden_files_are_left_out_and_links_to_folders_not_followed(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "a/.secret": "no",
            "a/.venv/x.py": "no",
            "a/__pycache__/x.py": "no",
            "a/x.py": "yes",
            "b/y.py": "away",
        },
    )
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "b")
    assert texts(tmp_path / "a") == ["yes"]


def test_every_kind_of_file_in_one_folder(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    put(
        tmp_path,
        {
            "1.txt": "plain",
            "3.jsonl": '{"text": "line 1"}\n\n{"content": "line 2"}\n"bare"\n[1, 2]\n',
        },
    )
    (tmp_path / "2.py.gz").write_bytes(gzip.compress(b"print(1)\n"))
    lines = b'{"prompt": "p", "output": "o"}\n{"prompt_tokens": [1], "output_tokens": [2, 3]}\n'
    (tmp_path / "4.jsonl.zst").write_bytes(zstandard.compress(lines) + zstandard.compress(lines))
    parquet.write_table(table({"text": ["row 1", "row 2"]}), tmp_path / "5.parquet")
    np.save(tmp_path / "6.npy", np.array([[1, 2], [3, 4]], np.int64))
    np.save(tmp_path / "7.npy", np.array([5, 6, 7], np.uint16))
    found, skipped = read(tmp_path)
    assert not skipped
    assert [one.text if isinstance(one, Text) else one.ids.tolist() for one in found] == [
        "plain",
        "print(1)\n",
        *("line 1", "line 2", "bare", [1, 2]),
        *("p\no", [1, 2, 3]) * 2,
        *("row 1", "row 2"),
        *([1, 2], [3, 4]),
        [5, 6, 7],
    ]
    assert len({one.name for one in found}) == len(found)


def test_fields_are_taken_as_they_are_named(tmp_path: Path) -> None:
    from pyarrow import parquet, table

    put(tmp_path, {"a.jsonl": json.dumps({"question": "q", "answer": "a", "text": "no"})})
    assert texts(tmp_path / "a.jsonl", fields=["answer"]) == ["a"]
    assert texts(tmp_path / "a.jsonl", fields=["question", "answer"]) == ["q\na"]
    parquet.write_table(table({"q": ["1", "2"], "a": ["x", "y"]}), tmp_path / "a.parquet")
    assert texts(tmp_path / "a.parquet", fields=["a"]) == ["x", "y"]
    _, skipped = read(tmp_path / "a.parquet", fields=["b"])
    assert "has no field 'b', but q, a" in skipped[str(tmp_path / "a.parquet")]


@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint32", "int64"])
def test_raw_ids_need_their_type(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "ids.bin"
    np.array([1, 2, 499], dtype).tofile(path)
    assert ids(path, id_type=dtype) == [[1, 2, 499]]
    _, skipped = read(path)
    assert skipped[str(path)] == "it is not UTF-8; raw ids need --id-type"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("image.png", b"\x89PNG\r\n\x1a\n\0\0\0", "UTF-8"),
        ("nul.txt", b"a\0b", "binary"),
        ("nul.bin", b"a\0b", "it is binary; raw ids need --id-type"),
        ("latin.txt", "käse".encode("latin-1"), "UTF-8"),
        ("wide.txt", "text".encode("utf-16"), "UTF-8"),
        ("cut.txt.gz", gzip.compress(os.urandom(4000))[:-9], "cannot be read|UTF-8"),
        ("not.gz", b"no gzip at all", "cannot be read"),
        ("not.zst", b"no zstd at all", "damaged"),
        ("not.parquet", b"no parquet at all", "damaged"),
        ("not.npy", b"no array at all", "no array of ids"),
        ("none.jsonl", b'{"txt": "a"}', "usual fields"),
        ("broken.jsonl", b'{"text": "a"', "no JSON"),
        ("deep.jsonl", b"[" * 100_000, "no JSON"),
        ("number.jsonl", b'{"text": 5}', "neither"),
        ("chat.jsonl", b'{"messages": [{"role": "user", "content": "hi"}]}', "chat template"),
        ("beyond.jsonl", b"[1, 500]", "not below 500"),
        ("below.jsonl", b"[1, -1]", "below 0"),
        ("huge.jsonl", b"[4294967296]", "above 2147483647"),
    ],
)
def test_what_is_no_document_is_named_with_the_reason_and_not_fatal(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "zz_good.txt").write_text("good")
    found, skipped = read(tmp_path)
    assert [one.text for one in found if isinstance(one, Text)] == ["good"]
    (where, why), *more = skipped.items()
    assert name in where
    assert not more
    assert any(part in why for part in reason.split("|")), why


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([1.5]), "float64"),
        (np.array([[[1]]]), "(1, 1, 1)"),
        (np.array([1, 500]), "not below 500"),
        (np.array([{"a": 1}], object), "object"),
    ],
)
def test_arrays_that_are_no_ids(
    tmp_path: Path, array: npt.NDArray[np.generic], reason: str
) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    _, skipped = read(tmp_path)
    assert reason in next(iter(skipped.values()))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    put(tmp_path, {"a.txt": "a", "b.txt": "b"})
    (tmp_path / "a.txt").chmod(0)
    found, skipped = read(tmp_path)
    assert len(found) == 1
    assert "cannot be read" in skipped[str(tmp_path / "a.txt")]


def test_a_bad_line_is_left_out_alone(tmp_path: Path) -> None:
    put(tmp_path, {"a.jsonl": '{"text": "1"}\nno\n{"text": "3"}\n'})
    found, skipped = read(tmp_path / "a.jsonl")
    assert [one.name.rsplit(":")[-1] for one in found] == ["1", "3"]
    assert list(skipped) == [f"{tmp_path}/a.jsonl:2"]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from retrieval_draft.warming import formats

    for module in (bounds, formats):
        monkeypatch.setattr(module, "PART_CHARACTERS_MAX", 10)
        monkeypatch.setattr(module, "PART_TOKENS_MAX", 4)


@pytest.mark.usefixtures("small_parts")
def test_long_documents_are_cut_behind_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    text = "one\ntwo\nthree four five\nsix\n"
    put(tmp_path, {"a.txt": text, "b.jsonl": json.dumps({"text": text})})
    expected = ["one\ntwo\n", "three four", " five\nsix\n"]
    found, _ = read(tmp_path / "a.txt")
    assert [one.text for one in found if isinstance(one, Text)] == expected
    assert [one.name[-5:] for one in found] == ["a.txt", "txt#2", "txt#3"]
    assert texts(tmp_path / "b.jsonl") == expected
    np.save(tmp_path / "c.npy", np.arange(10))
    assert ids(tmp_path / "c.npy") == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_urls_are_read_as_folders_and_as_files(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/warm/a.txt", b"remote")
    memory.pipe("/warm/sub/b.jsonl.gz", gzip.compress(b'{"text": "deep"}'))
    memory.pipe("/warm/.hidden/c.txt", b"no")
    assert texts("memory://warm") == ["remote", "deep"]
    assert texts("memory://warm/sub/b.jsonl.gz") == ["deep"]
    put(tmp_path, {"a.txt": "file"})
    assert texts(f"file://{tmp_path}/a.txt") == ["file"]


@pytest.mark.parametrize("source", ["/nowhere", "memory://nowhere", "file:///nowhere"])
def test_a_source_that_is_not_there_is_refused_before_anything_is_read(source: str) -> None:
    with pytest.raises(InvalidInput, match="nowhere"):
        extent_of(["tests", source])


def test_a_url_that_needs_more_says_what() -> None:
    with pytest.raises(FailedPrecondition, match="Protocol not known"):
        extent_of(["nosuch://bucket/x"])


def test_an_extent_is_of_stored_bytes_and_unknown_for_streams(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a" * 10_000))
    (tmp_path / "b.txt").write_text("four")
    size = (tmp_path / "a.gz").stat().st_size
    assert (extent_of([str(tmp_path)]).files, extent_of([str(tmp_path)]).nbytes) == (2, size + 4)
    assert extent_of([str(tmp_path), "-"]).nbytes is None
    counts: list[int] = []
    formats = Formats(Fields(), VOCAB)
    assert len(list(Reading([str(tmp_path)], formats, counts.append).documents())) == 2
    assert counts[-1] == size + 4


def test_a_dataset_gives_a_document_a_row(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    put(
        tmp_path, {"train.jsonl": '{"text": "1"}\n{"text": "2"}\n', "test.jsonl": '{"text": "3"}\n'}
    )
    assert texts(f"hf://{tmp_path}") == ["1", "2"]
    assert texts(f"hf://{tmp_path}@test") == ["3"]
    with pytest.raises(InvalidInput, match="nosplit"):
        texts(f"hf://{tmp_path}@nosplit")


def test_a_hub_that_does_not_answer_is_no_wrong_input(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(Unreachable, match="hf://owner/name cannot be read: "):
        texts("hf://owner/name")


def test_a_dataset_without_the_library_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'retrieval-draft\[warm\]'"):
        texts("hf://owner/name")
