"""Pictures: reading, writing, conversion from and to float arrays, tiling."""
