"""HEIC photographs, which are read where the extra `heif` is installed: `pip install pi-heif`.

pi-heif is pillow-heif without encoders: BSD, its wheels with libheif under the LGPL. Which of the two a project has
changes which files are images, so its version is part of the decode cache's name.
"""

from __future__ import annotations

import importlib

_PACKAGE = "pi_heif"
FORMATS: tuple[str, ...] = ()
VERSION = ""

try:
    _module = importlib.import_module(_PACKAGE)
except ImportError:  # not installed, as where a packaged model is served
    pass
else:
    _module.register_heif_opener()
    FORMATS, VERSION = ("HEIF",), _module.__version__
