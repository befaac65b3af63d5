// SPDX-License-Identifier: Apache-2.0
// Node's HTTP/1 server: node.js PORT. Each request is answered with 200, `node METHOD TARGET HOST BYTES`, and told
// on standard output as `saw METHOD TARGET` once its head is there. BYTES is the size of its body.
'use strict';
const http = require('http');

const server = http.createServer({keepAliveTimeout: 0}, (request, response) => {
  process.stdout.write(`saw ${request.method} ${request.url}\n`);
  let size = 0;
  request.on('data', (part) => { size += part.length; });
  request.on('error', () => {});
  request.on('end', () => {
    response.end(`node ${request.method} ${request.url} ${request.headers.host} ${size}`);
  });
});
server.on('connect', (request, socket) => {
  process.stdout.write(`saw ${request.method} ${request.url}\n`);
  socket.on('error', () => {});
  socket.end('HTTP/1.1 405 Not Here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n');
});
server.listen(Number(process.argv[2]), '::');
process.on('SIGTERM', () => process.exit(0));
