"""Analysis of pictures: metrics, noise level, clipping."""
