"""What a Space starts: the demo in denoiser/demo, as ``python -m denoiser.demo`` does."""

from denoiser.demo.__main__ import main

if __name__ == "__main__":
    main()
