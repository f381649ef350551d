"""Backbones with their stages named: ``build_backbone(name)`` gives a `Backbone`."""

from protoseg.backbones.backbone import BACKBONES, Backbone, build_backbone

__all__ = ["BACKBONES", "Backbone", "build_backbone"]
