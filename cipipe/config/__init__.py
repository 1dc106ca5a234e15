"""cipipe.toml → Config, with everything that is wrong reported in one go.

`settings` has the types, `views` how they look in one environment.
`loading` reads and checks the file: `stage_tables` one stage, `names` and
`references` what the parts say of each other, and `resources` finds
environments that would overwrite or delete each other's things.
"""

from cipipe.config.loading import ConfigFile, StageCheck, load
from cipipe.config.settings import (
    FILE_NAME,
    Bootstrap,
    Config,
    LedgerSettings,
    OidcSettings,
    ProjectSettings,
    StageTable,
)
from cipipe.config.views import PLACEHOLDERS, upstream

__all__ = [
    "FILE_NAME",
    "PLACEHOLDERS",
    "Bootstrap",
    "Config",
    "ConfigFile",
    "LedgerSettings",
    "OidcSettings",
    "ProjectSettings",
    "StageCheck",
    "StageTable",
    "load",
    "upstream",
]
