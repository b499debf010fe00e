"""What an installation can do and what it lacks; `frugalclip doctor` prints it."""
