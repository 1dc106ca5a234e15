"""The kinds of stage. A new one is one module here that meets `base.Kind`, and one line in `KINDS`."""

from cipipe.stages import command, dags, image, terraform
from cipipe.stages.base import Kind

KINDS: dict[str, Kind] = {kind.NAME: kind for kind in (terraform, image, dags, command)}
