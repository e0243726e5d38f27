"""Fix hypothesis' settings for every suite: no deadlines, and the same examples on each CI run."""

import os

from hypothesis import settings

settings.register_profile("keeper", deadline=None, print_blob=True)
settings.register_profile("keeper-ci", settings.get_profile("keeper"), derandomize=True)
settings.load_profile("keeper-ci" if os.environ.get("CI") else "keeper")
