"""The images, the compose file and the Kubernetes base run for real on podman or Docker: `make containers`."""
