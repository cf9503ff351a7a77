"""What rollgate's own servers share: settings, request bodies, metrics, start and stop."""
