# SPDX-License-Identifier: Apache-2.0
"""The official OpenAI SDK for Node, in the same world as the one for Python."""

import os
import shutil
import subprocess
from pathlib import Path

from support.gateway import KEY
from test_openai_sdk import LIMITED, world  # noqa: F401 (a fixture)

NODE = Path(__file__).parent / "node"


def test_the_node_sdk_does_what_it_does_at_openai(world):  # noqa: F811
    assert shutil.which("node"), "node is not installed: ./dev e2e installs it"
    assert (NODE / "node_modules" / "openai").is_dir(), "the SDK is not installed: ./dev e2e installs it"
    gateway, _ = world
    env = {**os.environ, "BASE_URL": gateway.base_url, "KEY": KEY, "LIMITED_KEY": LIMITED}
    done = subprocess.run(["node", "story.mjs"], cwd=NODE, env=env, capture_output=True, text=True, timeout=120)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 10
