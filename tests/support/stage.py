# SPDX-License-Identifier: Apache-2.0
"""What a story needs running: each thing in the story's directory, on port 0, ended by the story itself."""

from support.gateway import Gateway, Simulator, config
from support.postgres import Postgres
from support.redis import Redis, RedisCluster, Sentinels
from support.tcpfault import TcpFault
from support.upstream import Upstream


class Stage:
    """Starts things and ends them in reverse order; a failure of one ending does not spare the others."""

    def __init__(self, directory):
        self.directory, self.endings, self.count = directory, [], 0

    def next_name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def gateway(self, providers=(), models=(), env=None, args=(), **more):
        g = Gateway(self.directory, config(providers, models, **more), self.next_name("gateway"), env, args)
        self.endings.append(g.stop)
        return g.start()

    def simulator(self, **more):
        s = Simulator(self.directory, self.next_name("simulator"), **more)
        self.endings.append(s.stop)
        return s.start()

    def upstream(self, script=None):
        u = Upstream(script)
        self.endings.append(u.close)
        return u

    def tcpfault(self, target):
        t = TcpFault(target)
        self.endings.append(t.close)
        return t

    def redis(self, **more):
        r = Redis(self.directory, self.next_name("redis"), **more)
        self.endings.append(r.stop)
        return r.start()

    def redis_cluster(self, **more):
        c = RedisCluster(self.directory / self.next_name("cluster"), **more)
        self.endings.append(c.stop)
        return c.start()

    def sentinels(self, **more):
        s = Sentinels(self.directory / self.next_name("sentinels"), **more)
        self.endings.append(s.stop)
        return s.start()

    def postgres(self, settings=""):
        p = Postgres(settings)
        self.endings.append(p.stop)
        return p.start()

    def end(self):
        failures = []
        for ending in reversed(self.endings):
            try:
                ending()
            except Exception as e:
                failures.append(e)
        if failures:
            raise failures[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()
