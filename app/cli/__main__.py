"""`python -m app.cli` is `delivery`."""

from app.cli import main

main()
