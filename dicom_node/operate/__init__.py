"""What keeps the node running: metrics, health, audit trail, notifications, the service manager."""
