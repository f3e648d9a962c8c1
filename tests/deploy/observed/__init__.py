"""The pipeline as plain processes under a real Prometheus and Alertmanager, with the rules that are shipped."""
