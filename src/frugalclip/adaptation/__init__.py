"""What is trained on top of finished features, and weights between finished models."""
