"""Training, measuring and publishing checkpoints. ``python -m train --help`` starts here."""
