"""`mbo demo`: the whole pipeline on this machine with a simulated market at its own pace."""

from __future__ import annotations

import argparse
import dataclasses
import os

from services.up import UpSettings, service_settings, up
from shared import settings
from shared.settings import option


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DemoSettings(UpSettings):
    speed: str = option("1", "1 is the market's own pace, max as fast as it goes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    settings.add_options(parser, DemoSettings, skip=("source", "drain"))


def run(args: argparse.Namespace) -> int:
    given = {**vars(args), "source": ("sim",)}
    return up(settings.build(DemoSettings, given, os.environ, known=service_settings()))
