"""Walking a folder as git would: without what .gitignore files at any level leave out."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

GITIGNORE = ".gitignore"


@dataclass(frozen=True, slots=True)
class _Rules:
    """The patterns of one file, for paths below `folder`."""

    folder: Path
    spec: GitIgnoreSpec

    def decide(self, path: Path, *, is_folder: bool) -> bool | None:
        """True leaves the path out, False takes it back in, None says nothing."""
        relative = path.relative_to(self.folder).as_posix()
        return self.spec.check_file(f"{relative}/" if is_folder else relative).include


def files_in(folder: Path) -> Iterator[Path]:
    """All files below `folder`, in a fixed order; hidden ones and ignored ones are left out.

    Rules of the parents up to the git repository's root hold too, unless they leave out `folder`
    itself: who names a folder wants it. Links to folders are not followed.
    """
    folder = folder.absolute()
    above = _rules_above(folder)
    if _is_ignored(folder, above, is_folder=True):
        above = ()
    yield from _walk(folder, above)


def _walk(folder: Path, rules: tuple[_Rules, ...]) -> Iterator[Path]:
    rules += tuple(_rules_of(folder / GITIGNORE, folder))
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
        if entry.name.startswith(".") or entry.name == "__pycache__":
            continue
        if _is_ignored(path, rules, is_folder=is_folder):
            continue
        if is_folder:
            yield from _walk_if_allowed(path, rules)
        elif entry.is_file():
            yield path


def _walk_if_allowed(folder: Path, rules: tuple[_Rules, ...]) -> Iterator[Path]:
    """The folder's files, or the folder itself where it may not be read: opening it will tell why."""
    try:
        with os.scandir(folder):
            pass
    except OSError:
        yield folder
        return
    yield from _walk(folder, rules)


def _is_ignored(path: Path, rules: tuple[_Rules, ...], *, is_folder: bool) -> bool:
    """What the nearest file says that says anything."""
    for one in reversed(rules):
        if (decision := one.decide(path, is_folder=is_folder)) is not None:
            return decision
    return False


def _rules_above(folder: Path) -> tuple[_Rules, ...]:
    found: list[_Rules] = []
    for parent in folder.parents if not (folder / ".git").exists() else ():
        found = [*_rules_of(parent / GITIGNORE, parent), *found]
        if (parent / ".git").exists():
            return (*_rules_of(parent / ".git" / "info" / "exclude", parent), *found)
    return ()  # in no repository


def _rules_of(file: Path, folder: Path) -> Iterator[_Rules]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    yield _Rules(folder, GitIgnoreSpec.from_lines(lines))
