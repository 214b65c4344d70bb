"""The stack of docker-compose.yml as child processes on free loopback ports: no Docker needed.

Each part is skipped when its address is in the environment already, and ends with its parent,
also when that is killed.
"""
