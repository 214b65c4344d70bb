"""Services that run beside the agents: slots of work, relays, timers, a watch on settings."""
