"""After a prune, every rollback that is offered finds its image."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from cipipe.stages.image.retention import DeployedImage, Generation, Retention, retention
from cipipe.stages.image.settings import Keep

START = datetime(2026, 1, 1, tzinfo=UTC)


class World:
    """A ledger and a repository. DAGs run the image that was deployed last before them."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep
        self.now = START
        self.ledger: list[DeployedImage] = []
        # The deployments of DAGs, each with the image that they run.
        self.dags: list[tuple[Generation, str]] = []
        self.repository: set[str] = set()
        self.offered_since: datetime | None = None

    def deploy_image(self, content: int) -> None:
        tag = f"{content:020x}"
        # The same content is pushed again only if its image is gone.
        self.repository.add(tag)
        self.ledger.append(DeployedImage(self.now, tag, f"sha256:{content}"))

    def deploy_dags(self) -> None:
        if self.ledger:
            self.dags.append((Generation(self.now, self.now), self.ledger[-1].tag))

    def go_back(self, number: int) -> None:
        """DAGs go back, and with them the image that they run; the ledger's image stays."""
        if offered := self.offered():
            target, tag = offered[number % len(offered)]
            self.dags.append((Generation(self.now, target.image_of), tag))

    def offered(self) -> list[tuple[Generation, str]]:
        since = self.offered_since
        return [found for found in self.dags if since is None or found[0].at >= since]

    def prune(self) -> Retention:
        found = retention(
            self.ledger,
            [generation for generation, _ in self.dags],
            keep=self.keep,
            now=self.now,
            already=self.offered_since,
        )
        self.offered_since = found.offered_since
        kept = {image.tag for image in found.images}
        # What is deployed now always stays.
        kept |= {self.ledger[-1].tag} if self.ledger else set()
        self.repository &= kept
        return found


steps = st.lists(
    st.one_of(
        st.tuples(st.just("image"), st.integers(0, 5)),
        st.tuples(st.just("dags"), st.just(0)),
        st.tuples(st.just("both"), st.integers(0, 5)),
        st.tuples(st.just("rollback"), st.integers(0, 20)),
        st.tuples(st.just("prune"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 60)),
    ),
    max_size=40,
)


@given(steps, st.integers(0, 40), st.integers(1, 6))
def test_every_offered_rollback_finds_its_image(
    history: list[tuple[str, int]], days: int, count: int
) -> None:
    world = World(Keep(days=days, count=count))
    for action, number in history:
        world.now += timedelta(hours=1)
        if action in {"image", "both"}:
            world.deploy_image(number)
        if action == "both":
            world.now += timedelta(minutes=1)
        if action in {"dags", "both"}:
            world.deploy_dags()
        if action == "rollback":
            world.go_back(number)
        if action == "wait":
            world.now += timedelta(days=number)
        if action == "prune":
            world.prune()
            offered = world.offered()
            assert {tag for _, tag in offered} <= world.repository
            # As many as were asked for, and all that are young enough.
            young = [one for one in world.dags if one[0].at >= world.now - timedelta(days=days)]
            assert set(young) <= set(offered)


def test_an_old_image_goes_and_the_one_that_still_ran_stays() -> None:
    days = [START + timedelta(days=number) for number in range(5)]
    images = [DeployedImage(day, str(number), "") for number, day in enumerate(days)]
    now = days[4] + timedelta(hours=12)
    found = retention(images, [], keep=Keep(days=2, count=1), now=now, already=None)
    assert found.offered_since == days[2] + timedelta(hours=12)
    assert [image.tag for image in found.images] == ["2", "3", "4"]


def test_few_deployments_are_all_kept() -> None:
    images = [DeployedImage(START, "a", "")]
    now = START + timedelta(days=1000)
    found = retention(images, [], keep=Keep(days=0, count=1), now=now, already=None)
    assert found == Retention(None, tuple(images))
