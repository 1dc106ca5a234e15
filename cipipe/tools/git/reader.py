"""Reading git objects: one `git cat-file --batch` per repository, however many are read."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from cipipe.errors import StageError
from cipipe.tools.git import command
from cipipe.tools.git.conversation import Conversation
from cipipe.tools.git.objects import Object

Receive = Callable[[Object | None], None]
"""Gets the answers, one by one and in order; None for a name without an object."""

# Bytes per request: few enough that git's input never fills while git waits
# for its output to be read.
_REQUEST = 32768

# What git says when it may not fetch an object that a partial clone left
# out.
_NOT_FETCHED = "from promisor remote"

_OID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class ObjectReader:
    """The objects of one repository. Safe to use from several threads."""

    def __init__(self, root: Path, env: Mapping[str, str]) -> None:
        self._root = root
        # As `command.scrubbed` returns it.
        self._env = env
        self._lock = threading.Lock()
        self._process: Conversation | None = None

    def start(self) -> None:
        """Start git before there is anything to read, so that it is ready by then."""
        with self._lock:
            self._started()

    def read(self, names: Sequence[str], receive: Receive) -> None:
        """Pass the object of each name to `receive`, in order. `receive`
        must not read here itself.

        Objects that a partial clone left out count as missing. Raises
        UsageError for a repository of another user, and ProcessFailed.
        """
        answered = 0

        def count(found: Object | None) -> None:
            nonlocal answered
            answered += 1
            receive(found)

        with self._lock:
            try:
                self._ask(names, count)
            except StageError as error:
                if command.FOREIGN_OWNER in error.message:
                    raise command.foreign_owner(self._root) from error
                # Where git may not fetch, some versions call an object
                # missing, and others (2.39 is one) die of it: the name
                # after the last answer is the one.
                if _NOT_FETCHED not in error.message:
                    raise
                receive(None)
                self._ask_without_fetching(names[answered + 1 :], receive)

    def _ask(self, names: Sequence[str], receive: Receive) -> None:
        """Pass on the answers, as far as git gets."""
        lines = [f"{name}\n".encode(errors="surrogateescape") for name in names]
        with self._restarting():
            for batch in _batches(lines):
                process = self._started()
                process.ask(b"".join(batch))
                for _ in batch:
                    receive(_answer(process))

    def _ask_without_fetching(self, names: Sequence[str], receive: Receive) -> None:
        """Go on after git died of an object that is not in this clone.

        Object ids are checked in one go. Other names are tried one by one,
        because each may make git fail again.
        """
        from cipipe.tools.process import ProcessFailed

        present = self._present([name for name in names if is_oid(name)])
        for name in names:
            known: list[Object | None] = []
            if name in present or not is_oid(name):
                with contextlib.suppress(ProcessFailed):
                    self._ask([name], known.append)
            receive(known[0] if known else None)

    def _present(self, ids: Sequence[str]) -> set[str]:
        """Those of the object ids that this clone has."""
        if not ids:
            return set()
        arguments = [
            "rev-list",
            "--objects",
            "--no-object-names",
            "--no-walk",
            "--ignore-missing",
            "--missing=allow-any",
            "--stdin",
        ]
        stdin = "".join(f"{name}\n" for name in ids).encode()
        done = command.run(arguments, folder=self._root, env=self._env, stdin=stdin)
        return set(done.stdout.decode().split())

    def _started(self) -> Conversation:
        if self._process is None:
            argv = ["git", "-C", str(self._root), "cat-file", "--batch"]
            self._process = Conversation(argv, env=self._env)
        return self._process

    @contextlib.contextmanager
    def _restarting(self) -> Iterator[None]:
        """Forget the process after a failure: the rest of its output is not the next answer."""
        try:
            yield
        except BaseException:
            if self._process is not None:
                self._process.close()
                self._process = None
            raise


def is_oid(name: str) -> bool:
    """Whether this is an object id: SHA-1 or SHA-256, in hex, in full."""
    return _OID.fullmatch(name) is not None


def _answer(process: Conversation) -> Object | None:
    """One answer of `git cat-file --batch`: a line `OID TYPE SIZE`, the object, a line end."""
    header = process.line().split(b" ")
    if len(header) != 3 or header[-1] in {b"missing", b"ambiguous"}:
        return None
    body = process.read(int(header[2]) + 1)[:-1]
    return Object(header[0].decode(), header[1].decode(), body)


def _batches(lines: list[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for line in lines:
        if batch and size + len(line) > _REQUEST:
            yield batch
            batch = []
            size = 0
        batch.append(line)
        size += len(line)
    if batch:
        yield batch
