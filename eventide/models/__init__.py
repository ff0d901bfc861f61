"""Backbones, necks, heads and the meta-architectures made of them. Every module of this room is imported, so that
architectures register themselves.
"""

from importlib import import_module
from pkgutil import iter_modules

from eventide.models.registry import BUILDERS, Architecture, build

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["BUILDERS", "Architecture", "build"]
