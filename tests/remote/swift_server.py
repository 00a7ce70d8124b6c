"""A real object store with the S3 API on 127.0.0.1: OpenStack Swift, one of each server, in an environment of its own.

In:  a folder for its objects.   Out: an address for s3fs, and ways to kill and start it.
Key `test:tester`, secret `testing`, region us-east-1, path-style addresses. A second key has a secret that stands in no
text. A bucket can be given a quota.
"""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from environments import environment, free_port, wait_for_port

PACKAGES = ("swift==2.38.3", "keystonemiddleware", "setuptools<81")
RINGS = ("account", "container", "object")
SERVER = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
workers = 0
log_name = {name}
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
recon_cache_path = {cache}
fallocate_reserve = 0
"""
MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder
for argument in sys.argv[1:]:
    name, port = argument.split(":")
    builder = RingBuilder(4, 1, 0)
    at = {"ip": "127.0.0.1", "port": int(port), "replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": "", **at})
    builder.rebalance()
    builder.get_ring().save(f"{name}.ring.gz")
"""
"""One process instead of nine calls of swift-ring-builder, each of which takes a second."""
SERVE = """
import os, sys
import eventlet, eventlet.wsgi
eventlet.monkey_patch()
from swift.common import wsgi
from swift.common.http_protocol import SwiftHttpProtocol
for name in sys.argv[1:]:
    app, conf, _, _ = wsgi.init_request_processor(os.path.abspath(f"{name}.conf"), f"{name}-server")
    how = {"protocol": SwiftHttpProtocol, "capitalize_response_headers": False, "log_output": False}
    eventlet.spawn_n(eventlet.wsgi.server, wsgi.get_socket(conf), app, wsgi.NullLogger(), **how)
eventlet.sleep(1_000_000)
"""
"""One process for the four servers, each on its port: they start in two seconds instead of six."""
WRITER_SECRET = "s3cr3t-0f-the-wr1ter"
MIDDLEWARE = {
    "catch_errors": "",
    "proxy-logging": "",
    "cache": "memcache_servers = 127.0.0.1:11",
    "listing_formats": "",
    "bulk": "",
    "s3api": "s3_acl = false\nlocation = us-east-1\ndns_compliant_bucket_names = true",
    "tempauth": f"user_test_tester = testing .admin\nuser_test_writer = {WRITER_SECRET} .admin",
    "container_quotas": "",
    "copy": "",
    "slo": "",
    "dlo": "",
    "symlink": "",
}
SET_QUOTA = """
import os, sys
from swift.common.internal_client import InternalClient
from swift.common.utils import set_swift_dir
set_swift_dir(os.getcwd())
bucket, quota = sys.argv[1:]
client = InternalClient(os.path.abspath("internal.conf"), "tests", 1)
client.set_container_metadata("AUTH_test", bucket, {"x-container-meta-quota-bytes": quota})
"""
INTERNAL = """[DEFAULT]
swift_dir = {etc}
[pipeline:main]
pipeline = catch_errors proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
"""
EGGS = {"proxy-logging": "proxy_logging", "cache": "memcache"}
PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {etc}
workers = 0
[pipeline:main]
pipeline = {pipeline} proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
"""


def installed() -> Path:
    """The folder of its programs."""
    return environment("swift", *PACKAGES)


class SwiftServer:
    """The four servers."""

    def __init__(self, folder: Path) -> None:
        self._bin = installed()
        self._etc, self._log = folder / "etc", folder / "log"
        for path in (self._etc, self._log, folder / "devices" / "d1", folder / "cache"):
            path.mkdir(parents=True)
        self.port = free_port()
        self._configure(folder)
        self.start()

    @property
    def options(self) -> dict[str, Any]:
        """For s3fs."""
        return self.options_at(self.port)

    def options_at(self, port: int) -> dict[str, Any]:
        """For s3fs, when it goes through a proxy."""
        return {
            "key": "test:tester",
            "secret": "testing",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "client_kwargs": {"region_name": "us-east-1"},
        }

    @property
    def writer_options(self) -> dict[str, Any]:
        """For s3fs, with the other key."""
        return {**self.options, "key": "test:writer", "secret": WRITER_SECRET}

    def limit(self, bucket: str, num_bytes: int | None) -> None:
        """Set or lift the quota of a bucket, which the S3 API has no word for."""
        quota = "" if num_bytes is None else str(num_bytes)
        subprocess.run([self._bin / "python", "-c", SET_QUOTA, bucket, quota], cwd=self._etc, check=True, timeout=60)

    def start(self) -> None:
        """Start the servers."""
        with (self._log / "log.txt").open("ab") as log:
            command = [self._bin / "python", "-c", SERVE, *RINGS, "proxy"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._etc)
        wait_for_port(self.port, self._process)

    def kill(self) -> None:
        """End the servers at once."""
        self._process.kill()
        self._process.wait(10)

    def _configure(self, folder: Path) -> None:
        user = pwd.getpwuid(os.getuid()).pw_name
        common = {"user": user, "etc": self._etc, "devices": folder / "devices", "cache": folder / "cache"}
        (self._etc / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = a\nswift_hash_path_prefix = b\n"
            "[storage-policy:0]\nname = gold\ndefault = yes\n"
        )
        ports = {name: free_port() for name in RINGS}
        for name, port in ports.items():
            (self._etc / f"{name}.conf").write_text(SERVER.format(name=name, port=port, **common))
        rings = [f"{name}:{port}" for name, port in ports.items()]
        subprocess.run([self._bin / "python", "-c", MAKE_RINGS, *rings], cwd=self._etc, check=True, timeout=60)
        pipeline = " ".join((*MIDDLEWARE, "proxy-logging"))
        text = PROXY.format(port=self.port, pipeline=pipeline, **common)
        for name, options in MIDDLEWARE.items():
            text += f"[filter:{name}]\nuse = egg:swift#{EGGS.get(name, name)}\n{options}\n"
        (self._etc / "proxy.conf").write_text(text)
        (self._etc / "internal.conf").write_text(INTERNAL.format(etc=self._etc))
