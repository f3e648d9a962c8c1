"""`mbo demo`: the whole pipeline on this machine with a simulated market at its own pace."""

from __future__ import annotations

import argparse
import os

from services.up import UpSettings, service_settings, up
from shared import settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    settings.add_options(parser, UpSettings, skip=("source", "drain"))


def run(args: argparse.Namespace) -> int:
    given = {"speed": "1", **vars(args), "source": ("sim",)}
    return up(settings.build(UpSettings, given, os.environ, known=service_settings()))
