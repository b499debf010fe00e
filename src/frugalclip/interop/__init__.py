"""Foreign model formats, one file each; nothing here downloads."""
