"""What comes in: AMQP, Kafka topics, agents, rs-order; and the services that run beside them."""
