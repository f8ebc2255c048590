"""Pictures, crops and noise for training."""
