"""Where a marker may be, and that its name is assigned once."""

import pytest

from cipipe.errors import ProblemsError
from cipipe.stages.dags.markers.patch import patch, patch_all
from support.patching import PATH, outputs, patched, problem


@pytest.mark.parametrize(
    ("source", "id", "line"),
    [
        # Not at the end of an assignment.
        ('# cipipe: out\nA = "x"\n', "dag-marker-misplaced", 1),
        ('A = "x"\n# cipipe: out\n', "dag-marker-misplaced", 2),
        ("import os  # cipipe: out\n", "dag-marker-misplaced", 1),
        ("A: str  # cipipe: out\n", "dag-marker-misplaced", 1),
        ('A += "x"  # cipipe: out\n', "dag-marker-misplaced", 1),
        ('A = [\n  "x",  # cipipe: out\n]\n', "dag-marker-misplaced", 2),
        ('foo("x")  # cipipe: out\n', "dag-marker-misplaced", 1),
        # Not at the top of the module.
        ('if x:\n    A = "x"  # cipipe: out\n', "dag-marker-in-block", 2),
        ('if x: A = "x"  # cipipe: out\n', "dag-marker-in-block", 1),
        ('def f():\n    A = "x"  # cipipe: out\n', "dag-marker-in-block", 2),
        ('class A:\n    B = "x"  # cipipe: out\n', "dag-marker-in-block", 2),
        # Not alone on the line.
        ('A = "x"; B = 1  # cipipe: out\n', "dag-marker-semicolon", 1),
        ('A = "x";  # cipipe: out\n', "dag-marker-semicolon", 1),
        # Not one plain name.
        ('A = B = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('A, B = "x", "y"  # cipipe: out\n', "dag-marker-target", 1),
        ('[A] = ["x"]  # cipipe: out\n', "dag-marker-target", 1),
        ('(A) = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('a.b = "x"  # cipipe: out\n', "dag-marker-target", 1),
        ('a["b"] = "x"  # cipipe: out\n', "dag-marker-target", 1),
        # Not a literal that Terraform has a type for.
        ('A = f"x"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = f"{x["y"]}"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = foo("x")  # cipipe: out\n', "dag-default-not-literal", 1),
        ("A = lambda x=1: x  # cipipe: out\n", "dag-default-not-literal", 1),
        ('A = "x" + "y"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = "x" if y else "z"  # cipipe: out\n', "dag-default-not-literal", 1),
        ('A = b"x"  # cipipe: out\n', "dag-default-not-literal", 1),
        ("A = 1j  # cipipe: out\n", "dag-default-not-literal", 1),
        ("A = ...  # cipipe: out\n", "dag-default-not-literal", 1),
        ("A = {1: 2}  # cipipe: out\n", "dag-default-not-literal", 1),
        ('A = [x, "y"]  # cipipe: out\n', "dag-default-not-literal", 1),
        # A literal that does not say its type.
        ("A = None  # cipipe: out\n", "dag-default-none", 1),
        ("A: Any = None  # cipipe: out\n", "dag-default-none", 1),
        # Not one output.
        ('A = "x"  # cipipe: out put\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe:\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out.\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: .out\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out (sensitive)\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out  # cipipe: other\n', "dag-marker-syntax", 1),
        ('A = "x"  # cipipe: out  # cipipe:\n', "dag-marker-syntax", 1),
    ],
)
def test_placement(source: str, id: str, line: int) -> None:
    found = problem(source, out="y")
    assert (found.id, found.where) == (id, f"{PATH}:{line}")


@pytest.mark.parametrize(
    "other",
    [
        # Assignments, also in blocks that are no functions.
        "A = 2",
        "A: int = 2",
        "A += 1",
        "if x:\n    A = 2",
        "if x: A = 2",
        "for A in y:\n    pass",
        "for (B, A) in y: pass",
        "async def f():\n    global A",
        # Targets behind `as`.
        "with x as A:\n    pass",
        "with x as (B, A): pass",
        "with x as [B, *A], y as C:\n    pass",
        "with (x as B, y as A):\n    pass",
        # Captures of patterns.
        "match x:\n    case A: pass",
        "match x:\n    case [1, *A] | {'k': A}:\n        pass",
        "match x:\n    case C(y=A) if y: pass",
        "match x:\n    case (1 | 2) as A:\n        pass",
        "match x:\n    case 1: A = 2",
        "match (A := 1):\n    case 1: pass",
        "try:\n    pass\nexcept E as A:\n    pass",
        # Imports and definitions.
        "import A",
        "import x as A, y",
        "from x import (A, B)",
        "from x import y as A",
        "def A(): pass",
        "async def A(): pass",
        "class A: pass",
        "del A",
        # One of several targets, or of several statements.
        "B, A = 1, 2",
        "[B, *A] = x",
        "B = A = 2",
        "B = 1; A = 2",
        "print(A := 2)",
    ],
)
@pytest.mark.parametrize("behind", [True, False])
def test_a_marked_name_is_assigned_once(other: str, behind: bool) -> None:
    marked = "A = 1  # cipipe: out"
    source = f"{marked}\n{other}\n" if behind else f"{other}\n{marked}\n"
    assert problem(source, out=3).id == "dag-name-reassigned"


@pytest.mark.parametrize(
    "other",
    [
        # Attributes, subscripts, reads.
        "x.A = 2",
        "x[A] = 2",
        "B = A",
        # Other scopes.
        "def f(A=1):\n    A = 2",
        "def f(): A = 2",
        "class C:\n    A = 2",
        "f(A=2)",
        "for B in A:\n    pass",
        "import x.A",
        "B: A = 1",
        "A.b = 1",
        "A[0] = 1",
        "f(A)[0] = 1",
        "with A as B:\n    pass",
        "from A import b",
        'hook = lambda A="y": A',
        "hook = B = lambda x, A=1: A",
        "with x as B.A, y as C[A]: pass",
        "with x(A) as B, A: pass",
        (
            "match A:\n    case A.b: pass\n    case A(): pass\n"
            "    case C(A=1): pass\n    case 1 if A: pass"
        ),
        "if x:\n    case = A\n    case.x = A",
        "if A == 1:\n    pass",
    ],
)
def test_what_does_not_assign_the_name(other: str) -> None:
    assert (
        patched(f"A = 1  # cipipe: out\n{other}\n", 3)
        == f"A = 3  # cipipe: out\n{other}\n".encode()
    )


@pytest.mark.parametrize(
    "source",
    [
        b"# coding: nonsense\nA = 1  # cipipe: out\n",
        b"A = '\xff'  # cipipe: out\n",
        b"\xef\xbb\xbf# coding: latin-1\nA = 1  # cipipe: out\n",
        b"A = (1  # cipipe: out\n",
        b"A = 'x  # cipipe: out\n",
        b'A = 1  # cipipe: out\n"""\n',
        b"if x:\n        y\n    z\nA = 1  # cipipe: out\n",
    ],
)
def test_a_marked_file_that_is_not_python(source: bytes) -> None:
    with pytest.raises(ProblemsError) as caught:
        patch(source, PATH, outputs(out=2))
    assert [found.id for found in caught.value.problems] == ["dag-not-python"]


def test_all_problems_are_reported_at_once_in_order() -> None:
    good = b'A = "x"  # cipipe: out\n'
    bad = b'A = "x"  # cipipe: no\n# cipipe: out\nB = 1  # cipipe: out\nB = 2\n'
    with pytest.raises(ProblemsError) as caught:
        patch_all({"a.py": good, "b.py": bad, "c.py": bad}, outputs(out="y"))
    assert [(p.id, p.where) for p in caught.value.problems] == [
        (name, f"{path}:{line}")
        for path in ("b.py", "c.py")
        for name, line in [
            ("dag-output-unknown", 1),
            ("dag-marker-misplaced", 2),
            ("dag-name-reassigned", 3),
            ("dag-output-wrong-type", 3),
        ]
    ]
