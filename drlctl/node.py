"""One node as a process, with greedy for its fallback:  python -m drlctl.node --config node.json

`runtime.node` knows no policies; this module gives the device's node one.  Neither torch nor gymnasium is imported.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from drlctl.exit_codes import report
from drlctl.fallback import greedy_fallback
from runtime.errors import DrlctlError
from runtime.node import NodeConfig, load_node_config, run_node
from runtime.provision import first_model


def serve(config: NodeConfig) -> int:
    """Serve as one node until told to stop.  A device with a cost model falls back to greedy, without one to device-only."""
    falls_back = config.tier == "device" and config.cost_model
    return run_node(config, greedy_fallback(Path(config.cost_model), first_model(config)) if falls_back else None)


def main(argv: list[str] | None = None) -> int:
    """`python -m drlctl.node --config FILE`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drlctl.node", description="One node of the runtime.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of a NodeConfig")
    arguments = parser.parse_args(argv)
    try:
        return serve(load_node_config(arguments.config))
    except (DrlctlError, OSError, KeyboardInterrupt) as exc:
        return report(exc)


if __name__ == "__main__":
    sys.exit(main())
