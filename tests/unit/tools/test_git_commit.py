"""Parsing commit objects."""

from cipipe.tools.git.objects import Commit, Object

TREE, ONE, TWO = "a" * 40, "b" * 40, "c" * 40
SIGNED = f"""tree {TREE}
parent {ONE}
parent {TWO}
author A <a@example.org> 1700000000 +0100
committer C c <c@example.org> 1700000060 -0800
gpgsig -----BEGIN PGP SIGNATURE-----
 tree {ONE}
 committer X <x@example.org> 1 +0000
 -----END PGP SIGNATURE-----

Subject

parent {TWO}
committer Y <y@example.org> 2 +0000
"""


def test_a_signed_merge() -> None:
    assert Commit.parse(Object("d" * 40, "commit", SIGNED.encode())) == Commit(
        oid="d" * 40, tree=TREE, parents=(ONE, TWO), time=1700000060
    )


def test_a_first_commit_without_a_message() -> None:
    body = f"tree {TREE}\nauthor A <> 1 +0000\ncommitter \xe9 <> 5 +0000\n\n"
    commit = Commit.parse(Object(ONE, "commit", body.encode("latin-1")))
    assert (commit.tree, commit.parents, commit.time) == (TREE, (), 5)
