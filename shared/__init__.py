"""What crosses a process boundary or serves several services; never imports `services`."""
