"""What the figures of this machine were computed with."""

import platform
from importlib.metadata import version

from pseudoval import __version__


def versions(*packages: str) -> dict[str, str]:
    """Versions of this package, of Python and of other installed packages."""
    return {
        "pseudoval": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
