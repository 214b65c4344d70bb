"""Nights in memory: whole lives of deliveries, played by a seed (see `python -m tests.simulation`).

loop       time that is jumped over, and an order of steps that is drawn
processes  what is killed, frozen and started: a worker is one
draws      every choice of a night, from its seed
checks     what must hold; `fences`, who may touch an upload; `bounds`, what a worker may have
"""
