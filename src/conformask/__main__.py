"""The command line, as python -m conformask."""

from conformask.cli import main

if __name__ == "__main__":  # not in processes that multiprocessing starts
    main()
