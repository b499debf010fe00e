"""Foreign data formats as one manifest, and the shards that frugalclip writes itself."""
