# SPDX-License-Identifier: Apache-2.0
"""A state directory that is copied and started beside the original: two gateways under one id. One of them is refused by the
store and says so; it keeps its records instead of skipping them."""

import shutil
import threading

from support import mixed
from support.gateway import Gateway, config
from support.wait import eventually


def test_a_copy_beside_the_original_is_noticed_and_skips_nothing(stage):
    postgres, sim = stage.postgres(), stage.simulator(seed=4)
    settings = config(mixed.providers(sim), **mixed.GATEWAY, workers=1, database=postgres.url())
    first, second = (Gateway(stage.directory, settings, name) for name in ("first", "second"))
    stage.endings += [first.stop, second.stop]
    first.start()
    mixed.run([first], 50, leavers=0)
    shutil.copytree(first.state_dir, second.state_dir, ignore=shutil.ignore_patterns("*.sock", "*.lock"))
    second.start()
    over = threading.Event()

    def call(gateway):
        while not over.wait(0.02):
            gateway.chat()

    callers = [threading.Thread(target=call, args=(gateway,)) for gateway in (first, second)]
    for caller in callers:
        caller.start()
    try:

        def refused():
            return [g for g in (first, second) if "another gateway writes under the id of these books" in g.stderr()]

        eventually(refused, 30, what="a gateway that is refused")
    finally:
        over.set()
        for caller in callers:
            caller.join()
    loser = refused()[0]
    winner = second if loser is first else first
    assert loser.metric("gatewayd_degraded", part="history") == 1
    assert winner.metric("gatewayd_degraded", part="history") == 0
