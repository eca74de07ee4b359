"""`drlctl` and `python -m drlctl`."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line.  One thread per process, unless the user says otherwise: it must be set before numpy loads."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    from drlctl.cli import app

    app(prog_name="drlctl")


if __name__ == "__main__":
    main()
