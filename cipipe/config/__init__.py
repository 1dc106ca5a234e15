"""cipipe.toml → Config, with everything that is wrong reported in one go.

`settings` has the types, `loading` reads and checks the file, `naming` checks names and references,
`resources` finds environments that would overwrite or delete each other's things.
"""

from cipipe.config.loading import _File, load
from cipipe.config.settings import (
    FILE_NAME,
    PLACEHOLDERS,
    Bootstrap,
    Config,
    LedgerSettings,
    OidcSettings,
    ProjectSettings,
    StageTable,
    upstream,
)

__all__ = [
    "FILE_NAME",
    "PLACEHOLDERS",
    "Bootstrap",
    "Config",
    "LedgerSettings",
    "OidcSettings",
    "ProjectSettings",
    "StageTable",
    "_File",
    "load",
    "upstream",
]
