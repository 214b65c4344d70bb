"""What is on a wire and at rest, as it was recorded: a change of it must be deliberate.

`today` says how it is now, and alone names the code that says so; `kept` is what was recorded;
`book` compares. `tests/unit/test_recorded.py` and `tests/integration/test_recorded.py` are the
tests, `python -m tests.recorded` records again. The AsyncAPI document and the schemas of the events
are kept in docs/ (`tests/unit/test_asyncapi.py`).
"""
