"""What is written into `dashboards/` and `rules/`: `python -m grafana.build`."""
