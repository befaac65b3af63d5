// SPDX-License-Identifier: Apache-2.0
// HTTP/2 without TLS, by prior knowledge: h2server.js PORT. Tells what arrived, with a trailer.
'use strict';
const http2 = require('http2');

const server = http2.createServer();
server.on('stream', (stream, headers) => {
  const parts = [];
  stream.on('error', () => {});
  stream.on('data', (part) => parts.push(part));
  stream.on('end', () => {
    stream.respond({':status': 200, 'content-type': 'application/json'}, {waitForTrailers: true});
    stream.on('wantTrailers', () => stream.sendTrailers({'x-after': 'the end'}));
    stream.end(JSON.stringify({headers, body: Buffer.concat(parts).toString('latin1')}));
  });
});
server.listen(Number(process.argv[2]), '::');
process.on('SIGTERM', () => process.exit(0));
