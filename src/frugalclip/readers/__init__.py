"""Readers of foreign models: one file a format; nothing here downloads."""
