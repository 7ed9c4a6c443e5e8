// The integration tests' servers in one program: `node server.mjs SETTINGS.json` (tests/integration/conftest.py).
//
// An authorization server (authorization.mjs), an API (api.mjs) and a control channel, on 127.0.0.1 and free ports. It
// prints one line of JSON with the addresses, and ends when its standard input closes, or when its time is over.

import { readFileSync } from 'node:fs';
import * as http from 'node:http';
import * as https from 'node:https';

import { protectedResource } from './api.mjs';
import { authorizationServer } from './authorization.mjs';
import { control } from './control.mjs';
import { Ledger } from './ledger.mjs';

const settings = JSON.parse(readFileSync(process.argv[2]));
const tls = { cert: readFileSync(settings.certificate), key: readFileSync(settings.key) };
// What is presented is looked at by the authorization server and the API: a self-signed one may be a client's, too.
const mutual = { ...tls, ca: readFileSync(settings.ca), requestCert: true, rejectUnauthorized: false };

async function listen(server, scheme) {
  server.keepAliveTimeout = 0; // a connection that the server closes while a request is on its way is another test
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return { server, url: `${scheme}://127.0.0.1:${server.address().port}` };
}

const [issuer, mtls, plain, api, mtlsApi, controls] = await Promise.all([
  listen(https.createServer(tls), 'https'),
  listen(https.createServer(mutual), 'https'),
  listen(http.createServer(), 'http'),
  listen(https.createServer(tls), 'https'),
  listen(https.createServer(mutual), 'https'),
  listen(http.createServer(), 'http'),
]);

const ledger = new Ledger();
const place = { issuer: issuer.url, mtls: mtls.url, api: api.url, mtlsApi: mtlsApi.url };
const authorization = authorizationServer(place, settings, ledger);
const resource = protectedResource(place, authorization, ledger);

const provide = authorization.provider.callback();
issuer.server.on('request', provide);
mtls.server.on('request', provide);
plain.server.on('request', provide);
api.server.on('request', resource.handle);
mtlsApi.server.on('request', resource.handle);
controls.server.on('request', control(authorization, resource, ledger));

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
setTimeout(() => process.exit(3), settings.lifetime * 1000).unref();
process.stdout.write(`${JSON.stringify({ ...place, plain: plain.url, control: controls.url })}\n`);
