"""Scenes composed from cut-outs, with everything about them known: what `frugalclip data compose` writes.

`plan` holds the settings, `cutouts` reads single objects, `layout` places them, `rendering` paints them,
`captions` and `english` describe them, `planting` adds known faults, `composing` puts a shard together and
`truth` reads back what was stored.
"""
