"""Backbones with their stages named: ``build_backbone(name)`` gives a `Backbone`."""

from protoseg.backbones.backbone import BACKBONES, build_backbone
from protoseg.backbones.base import Backbone

__all__ = ["BACKBONES", "Backbone", "build_backbone"]
