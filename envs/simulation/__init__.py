"""Inside the simulator: workload pools, links, queues and telemetry of N environments at once, as float64 arrays."""
