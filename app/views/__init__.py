"""What operators look at: deliveries, workers, dead letters, the audit trail."""
