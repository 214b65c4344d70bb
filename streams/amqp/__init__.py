"""RabbitMQ: exchanges and queues, what is published and consumed, dead letters."""
