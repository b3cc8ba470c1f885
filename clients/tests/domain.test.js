// Packages like @auth0/nextjs-auth0 refuse a domain with a port: the vault has to work at a bare name too.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import https from 'node:https';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { startVault } from '../support/vault-process.js';

const NAME = 'vault.test';
const HOSTS = '/etc/hosts';
const LINE = `127.0.0.1 ${NAME}\n`;

const undo = [];
after(async () => {
  for (const step of undo.reverse()) await step();
});

/** Why this machine cannot have a server at the name and port; undefined when it can. */
async function obstacle() {
  for (const port of [443, 444]) {
    const listened = await new Promise((resolve) => {
      const server = createServer();
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
    });
    if (!listened) return `port ${port} is taken or needs more rights`;
  }
  try {
    await lookup(NAME);
    return undefined;
  } catch {
    // Not there yet.
  }
  try {
    await appendFile(HOSTS, LINE);
  } catch {
    return `${NAME} is not in ${HOSTS}, and that file cannot be written`;
  }
  undo.push(async () => writeFile(HOSTS, (await readFile(HOSTS, 'utf8')).replace(LINE, '')));
  return undefined;
}

function ask(url, ca, form) {
  return new Promise((resolve, reject) => {
    const request = https.request(url, { ca, method: form ? 'POST' : 'GET' }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve({ status: response.statusCode, body: JSON.parse(text) });
    });
    request.on('error', reject);
    if (form) request.setHeader('content-type', 'application/x-www-form-urlencoded');
    request.end(form && new URLSearchParams(form).toString());
  });
}

const missing = await obstacle();

test('a vault at a bare name: login, connection and exchange', { skip: missing }, async () => {
  const scratch = await mkdtemp(path.join(tmpdir(), 'tokenvault-domain-'));
  undo.push(() => rm(scratch, { recursive: true, force: true }));
  const data = path.join(scratch, 'vault');
  const { dev, stop } = await startVault({ data, port: 443, options: ['--domain', NAME] });
  undo.push(stop);
  assert.equal(dev.domain, NAME);
  assert.equal(dev.issuer, `https://${NAME}/`);

  const ca = await readFile(dev.ca_file);
  const discovery = await ask(`https://${NAME}/.well-known/openid-configuration`, ca);
  assert.equal(discovery.body.issuer, dev.issuer);

  // Logs in, connects an account and prints the refresh token, as the curl lines of the README have it done.
  const { stdout } = await promisify(execFile)(process.env.TOKENVAULT, ['dev-token', 'refresh-token', '--data', data]);
  const exchanged = await ask(discovery.body.token_endpoint, ca, {
    grant_type: 'urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token',
    client_id: dev.clients.web.client_id,
    client_secret: dev.clients.web.client_secret,
    subject_token: stdout.trim(),
    subject_token_type: 'urn:ietf:params:oauth:token-type:refresh_token',
    requested_token_type: 'http://auth0.com/oauth/token-type/federated-connection-access-token',
    connection: dev.sandbox.connection,
  });
  assert.equal(exchanged.status, 200, JSON.stringify(exchanged.body));
  assert.match(exchanged.body.access_token, /^sbxa_/);
});
