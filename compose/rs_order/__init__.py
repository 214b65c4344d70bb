"""A stand-in for REGARDS' rs-order: orders over AMQP, files over REST, from a folder of products.

For the demo, the tests and compose; docs/stand-in.md is about using it. Its files:

- `states` of files, suborders and orders, as data; `order`, what an order is made of
- `cutting` into suborders, the `places` of users, the life of `orders`, `downloads` and quotas
- `amqp` and `events`: what is heard and said; `rest`, `pages`, `tokens`: what is answered;
  `admin`, of rs-admin
- `switches`, how it is set up, and `options`, the same on a command line; `faults`, how it
  misbehaves; `behaviour`, both together; `control`, how both change
- `catalog`, its products; `clock`, its time; `service`, the parts put together
"""
