"""The test project's settings, for processes whose files are due at once."""

from datetime import timedelta

from tests.project.settings import *  # noqa: F403

PGCLEANUP_GRACE_PERIOD = timedelta(0)
PGCLEANUP_UPLOAD_WINDOW = timedelta(0)
