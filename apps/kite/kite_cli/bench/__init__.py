"""`kitectl bench`: workloads, measurement, report. Uses what any client can reach: HTTP, topics, /metrics, /proc."""
