"""What git stores, as bytes: an object, a tree, an entry of one. Pure; `git` reads them.

A tree stays unparsed until somebody asks, because there may be very many.
"""

import functools
import re

import msgspec

TREE, LINK, SUBMODULE = b"40000", b"120000", b"160000"
"""The modes of what is no file, as a tree object has them."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of a git tree: `mode` as six octal digits, `oid` in hex, `path` from the top of the
    repository.
    """

    mode: bytes
    oid: bytes
    path: bytes

    @property
    def is_tree(self) -> bool:
        return self.mode == b"040000"

    @property
    def is_blob(self) -> bool:
        return self.mode in {b"100644", b"100755"}


class Object(msgspec.Struct, frozen=True):
    """One object as `git cat-file --batch` gives it."""

    oid: str
    type: str
    body: bytes


class Tree(msgspec.Struct, frozen=True, dict=True):
    """A tree object: the entries of one folder, unparsed, because there may be very many."""

    body: bytes
    oid_size: int

    def listing(self) -> list[tuple[bytes, bytes, bytes]]:
        """Mode, name and id of each entry as git stores them: a folder's mode is `40000`, ids are
        raw bytes.
        """
        return _entry(self.oid_size).findall(self.body)

    @functools.cached_property
    def by_name(self) -> dict[bytes, tuple[bytes, bytes, bytes]]:
        """The same entries by their names; kept, for folders in which many names are looked up."""
        return {entry[1]: entry for entry in self.listing()}

    @property
    def plain(self) -> bool:
        """Whether it surely holds files alone, as most folders do. The modes of all else end in
        `0000`.
        """
        return b"0000 " not in self.body

    def folders(self) -> list[tuple[bytes, bytes]]:
        """Name and id, in hex, of each folder in it."""
        if self.plain:
            return []
        return [(name, oid.hex().encode()) for mode, name, oid in self.listing() if mode == TREE]


@functools.cache
def _entry(oid_size: int) -> re.Pattern[bytes]:
    """One entry of a tree object: `MODE SP NAME NUL ID`, the id in raw bytes ("Git Internals - Git
    Objects").
    """
    return re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % oid_size, re.DOTALL)
