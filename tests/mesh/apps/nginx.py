#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
nginx, as a server that others wrote:  nginx.py HTTP-PORT H2-PORT [SHORT-PORT]

Each request is answered with 200, `nginx METHOD TARGET HOST`, and logged on standard output as `saw METHOD TARGET`. The
second port speaks HTTP/2 in the clear; so does the third, which sends GOAWAY after 25 requests of a connection. Its files
are in a folder of its own, which goes with it.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

CONFIG = """
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    log_format saw 'saw $request_method $request_uri';
    access_log /dev/stdout saw;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    default_type text/plain;
    keepalive_requests 1000000;
    merge_slashes off;
    server {{
        listen {http};
        listen [::]:{http};
        listen {h2} http2;
        listen [::]:{h2} http2;
        location / {{ return 200 "nginx $request_method $request_uri $http_host"; }}
    }}
    {short}
}}
"""

SHORT = """
    server {{
        listen {port} http2;
        listen [::]:{port} http2;
        keepalive_requests 25;
        location / {{ return 200 "$connection\\n"; }}
    }}
"""


def main():
    http, h2, *more = map(int, sys.argv[1:])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="nginx-"))
    try:
        short = "".join(SHORT.format(port=port) for port in more)
        (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, http=http, h2=h2, short=short))
        child = subprocess.Popen(["/usr/sbin/nginx", "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")])
        signal.signal(signal.SIGTERM, lambda *_: os.kill(child.pid, signal.SIGQUIT))
        return child.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


sys.exit(main())
