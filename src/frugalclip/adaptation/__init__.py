"""What is trained on top of finished features."""
