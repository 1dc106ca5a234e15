"""What builders print, folded."""

from hypothesis import given
from hypothesis import strategies as st

from cipipe.stages.image.dockerfile import step_lines
from cipipe.tools.docker.progress import BuildProgress, ClassicProgress, StepName

# Of a real build with Docker 20.10, shortened.
BUILDKIT = """\
#1 [internal] load build definition from Dockerfile
#1 sha256:7b69c6f9cbb8
#1 transferring dockerfile: 1.76kB done
#1 DONE 0.0s

#12 importing cache manifest from r.test/app:1
#12 ERROR: failed to authorize: not found
------
 > importing cache manifest from r.test/app:1:
------

#4 [builder 1/4] FROM docker.io/library/base:1
#4 DONE 0.0s

#6 [builder 2/4] RUN python3 -m venv /opt/installer     && python3 -m venv /opt/dbt
#6 CACHED

#9 [builder 4/4] RUN pip install
#9 0.512 Collecting dbt-core
#10 [stage-1 2/5] RUN useradd dbt
#10 0.300 useradd: warning
#9 12.50 Installing collected packages
#10 DONE 0.4s
#10 DONE 0.4s
#9 DONE 14.7s

#13 exporting to image
#13 exporting layers done
#13 DONE 0.1s
"""


def test_a_build() -> None:
    lines: list[str] = []
    progress = BuildProgress(lines.append)
    for line in BUILDKIT.splitlines():
        progress.read(line)
    assert lines == [
        "no cache from r.test/app:1: failed to authorize: not found",
        "FROM docker.io/library/base:1 (0.0 s)",
        "RUN python3 -m venv /opt/installer && python3 -m venv /opt/dbt (cached)",
        "RUN pip install",
        "  Collecting dbt-core",
        "RUN useradd dbt",
        "  useradd: warning",
        "RUN pip install",
        "  Installing collected packages",
        "RUN useradd dbt: done in 0.4 s",
        "RUN pip install: done in 14.7 s",
    ]
    assert progress.cached == ["RUN python3 -m venv /opt/installer && python3 -m venv /opt/dbt"]
    assert progress.failed is None


def test_a_step_that_fails() -> None:
    lines: list[str] = []
    progress = BuildProgress(lines.append)
    for number in range(30):
        progress.read(
            "#6 [linux/amd64 stage-0 3/3] RUN make" if number == 0 else f"#6 0.1 {number}"
        )
    progress.read("#6 ERROR: executor failed running [/bin/sh -c make]: exit code: 2")
    assert progress.failed == StepName("stage-0", 3)
    assert progress.failed_title == "RUN make"
    assert progress.failed_output == [str(number) for number in range(10, 30)]


def test_the_classic_builder() -> None:
    lines: list[str] = []
    progress = ClassicProgress(lines.append)
    for line in (
        "Step 1/3 : FROM base",
        " ---> 27a9909cb27f",
        "Step 2/3 : RUN a",
        " ---> Using cache",
        " ---> 1c605f6f2654",
        "Step 3/3 : RUN b",
        " ---> Running in 2c605f6f2654",
        "output",
    ):
        progress.read(line)
    assert lines == ["FROM base", "RUN a", "  cached", "RUN b", "  output"]
    assert (progress.step, progress.title) == (StepName(None, 3), "RUN b")
    assert list(progress.output) == ["output"]
    assert progress.cached == ["RUN a"]


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n"))))
def test_any_output_is_read(texts: list[str]) -> None:
    for reader in (BuildProgress(lambda _: None), ClassicProgress(lambda _: None)):
        for number, text in enumerate(texts):
            reader.read(f"#{number % 3} {text}" if number % 2 else text)


DOCKERFILE = b"""\
# syntax=docker/dockerfile:1
ARG BASE=x
FROM ${BASE} AS Builder
ENV A=b

RUN one \\
    && two
COPY <<EOF /x
RUN not a step
EOF
FROM scratch
WORKDIR /app
COPY --from=builder /x /y
CMD ["x"]
"""


def test_where_the_steps_are() -> None:
    lines = step_lines(DOCKERFILE)
    assert {name: line for name, line in lines.items() if name[0] is not None} == {
        ("builder", 1): 3,
        ("builder", 2): 6,
        ("builder", 3): 8,
        ("stage-1", 1): 11,
        ("stage-1", 2): 12,
        ("stage-1", 3): 13,
    }
    assert lines[None, 1] == 2
    assert lines[None, 4] == 6
    assert step_lines(b"FROM a\nRUN b")["", 2] == 2
