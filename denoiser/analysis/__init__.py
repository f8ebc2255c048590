"""What can be said of a picture: metrics, noise level, clipping."""
