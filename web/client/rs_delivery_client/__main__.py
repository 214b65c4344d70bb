"""`python -m rs_delivery_client` is `rs-delivery`."""

from rs_delivery_client.cli import main

main()
