"""The groups of commands, each about one thing."""

from __future__ import annotations

from rs_delivery_client.cli.commands import Group

letter = Group("letter")
maintenance = Group("maintenance")
setting = Group("setting")
target = Group("target")
worker = Group("worker")
