"""How long cipipe waits for others. One object, so that tests can hand in shorter waits."""

import msgspec


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """All times are in seconds."""

    # Between two questions to MWAA.
    mwaa_poll: float = 15.0
    # For an MWAA environment to become available, and for an update of it.
    mwaa_update: float = 3600.0
    # MWAA copies the bucket this often: what it parsed earlier may have
    # been the old file.
    mwaa_sync: float = 30.0
    # Between two checks that a stage still belongs to this run, while it
    # writes many objects.
    ownership_check: float = 1.0


USUAL = Pace()
