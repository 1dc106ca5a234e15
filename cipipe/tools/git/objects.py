"""What git stores, as bytes: commits, trees and their entries. Pure.

Trees stay unparsed until somebody needs their entries, because there may be
very many.
"""

import functools
import re

import msgspec

TREE, LINK, SUBMODULE = b"40000", b"120000", b"160000"
"""The modes of everything that is not a file, as a tree object stores them."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of a git tree."""

    # Six octal digits.
    mode: bytes
    # Hex.
    oid: bytes
    # From the top of the repository.
    path: bytes

    @property
    def is_tree(self) -> bool:
        return self.mode == b"040000"

    @property
    def is_blob(self) -> bool:
        return self.mode in {b"100644", b"100755"}


class Object(msgspec.Struct, frozen=True):
    """One object as `git cat-file --batch` prints it."""

    oid: str
    # `commit`, `tree`, `blob` or `tag`.
    type: str
    body: bytes


class Commit(msgspec.Struct, frozen=True):
    """One commit."""

    oid: str
    tree: str
    # In a shallow clone, the objects of these may be missing.
    parents: tuple[str, ...]
    # When it was committed, in seconds since 1970.
    time: int

    @classmethod
    def parse(cls, found: Object) -> "Commit":
        """Parse a commit object: lines `KEY VALUE`, a blank line, the message."""
        head = found.body.partition(b"\n\n")[0]
        pairs = [line.partition(b" ")[::2] for line in head.split(b"\n")]
        # Later lines of a value, such as a signature's, start with a blank:
        # their key is empty.
        first = dict(reversed(pairs))
        return cls(
            oid=found.oid,
            tree=first[b"tree"].decode(),
            parents=tuple(value.decode() for key, value in pairs if key == b"parent"),
            # `NAME <MAIL> SECONDS ZONE`
            time=int(first[b"committer"].rsplit(b" ", 2)[1]),
        )


class Tree(msgspec.Struct, frozen=True, dict=True):
    """The entries of one folder, unparsed."""

    body: bytes
    # Bytes of a raw id in it: 20 for SHA-1, 32 for SHA-256.
    oid_size: int

    def listing(self) -> list[tuple[bytes, bytes, bytes]]:
        """Mode, name and id of each entry as git stores them: a folder's
        mode is `40000`, ids are raw bytes.
        """
        return _entry(self.oid_size).findall(self.body)

    @functools.cached_property
    def by_name(self) -> dict[bytes, tuple[bytes, bytes, bytes]]:
        """The same entries by name; kept, for folders in which many names are looked up."""
        return {entry[1]: entry for entry in self.listing()}

    @property
    def plain(self) -> bool:
        """Whether it certainly contains files only, as most folders do.

        All other modes end in `0000`. A name or an id may contain that by
        chance: then this is False, and the entries have to be parsed.
        """
        return b"0000 " not in self.body

    def folders(self) -> list[tuple[bytes, bytes]]:
        """Name and id, in hex, of each folder in it."""
        if self.plain:
            return []
        return [(name, oid.hex().encode()) for mode, name, oid in self.listing() if mode == TREE]


@functools.cache
def _entry(oid_size: int) -> re.Pattern[bytes]:
    """One entry of a tree object: `MODE SP NAME NUL ID`, the id in raw
    bytes.

    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    return re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % oid_size, re.DOTALL)
