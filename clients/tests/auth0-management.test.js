// auth0 7.x (node-auth0): its management client administers the vault, told nothing but the domain.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { ManagementClient, ManagementError } from 'auth0-management';
import { Connected } from '../support/connected.js';
import { ME_AUDIENCE, SANDBOX, vault } from '../support/stage.js';

const { client_id: clientId, client_secret: clientSecret } = vault.management;
const management = new ManagementClient({ domain: vault.domain, clientId, clientSecret });
const API = 'https://invoices.example/';

let clientMade;
let connectionMade;

before(async () => {
  clientMade = await management.clients.create({
    name: 'Made by node-auth0',
    app_type: 'regular_web',
    callbacks: ['https://app.example/callback'],
    grant_types: ['authorization_code', 'refresh_token'],
    jwt_configuration: { alg: 'RS256', lifetime_in_seconds: 3600 },
    refresh_token: {
      rotation_type: 'non-rotating',
      expiration_type: 'non-expiring',
      policies: [{ audience: ME_AUDIENCE, scope: ['read:me:connected_accounts'] }],
    },
  });
  connectionMade = await management.connections.create({
    name: 'made-by-node-auth0',
    strategy: 'oauth2',
    options: {
      client_id: 'abc',
      client_secret: 'hush',
      authorizationURL: 'https://provider.example/authorize',
      tokenURL: 'https://provider.example/token',
      scope: 'read',
    },
    connected_accounts: { active: true },
    authentication: { active: false },
  });
});

test('a client is made, seen, changed, and its secret rotated', async () => {
  assert.ok(clientMade.client_secret);
  const seen = await management.clients.get(clientMade.client_id);
  assert.equal(seen.name, 'Made by node-auth0');
  assert.equal(seen.client_secret, undefined);
  const changed = await management.clients.update(clientMade.client_id, { description: 'Changed' });
  assert.equal(changed.description, 'Changed');
  const rotated = await management.clients.rotateSecret(clientMade.client_id);
  assert.ok(rotated.client_secret);
  assert.notEqual(rotated.client_secret, clientMade.client_secret);
});

test('a connection is made, and enabled for the client', async () => {
  assert.equal(connectionMade.options.client_secret, undefined);
  await management.connections.clients.update(connectionMade.id, [{ client_id: clientMade.client_id, status: true }]);
  const enabled = await management.connections.clients.get(connectionMade.id, {});
  assert.deepEqual(
    enabled.data.map((client) => client.client_id),
    [clientMade.client_id],
  );
  const changed = await management.connections.update(connectionMade.id, { display_name: 'Made elsewhere' });
  assert.equal(changed.display_name, 'Made elsewhere');
  const found = await management.connections.list({ strategy: ['oauth2'], name: 'made-by-node-auth0' });
  assert.equal(found.data.length, 1);
});

test('an API is made, and the client granted scopes of it', async () => {
  const api = await management.resourceServers.create({
    identifier: API,
    name: 'Invoices',
    scopes: [{ value: 'read:invoices', description: 'Read invoices' }],
  });
  assert.equal((await management.resourceServers.get(api.id)).identifier, API);
  const grant = await management.clientGrants.create({
    client_id: clientMade.client_id,
    audience: API,
    scope: ['read:invoices'],
  });
  const grants = await management.clientGrants.list({ client_id: clientMade.client_id });
  assert.deepEqual(
    grants.data.map(({ id, scope }) => ({ id, scope })),
    [{ id: grant.id, scope: ['read:invoices'] }],
  );
  await management.clientGrants.update(grant.id, { scope: [] });
  await management.clientGrants.delete(grant.id);
  await management.resourceServers.delete(api.id);
});

test('a user is made, found, changed, blocked and deleted', async () => {
  const email = `node-auth0-${Date.now()}@example.com`;
  const user = await management.users.create({
    connection: 'Username-Password-Authentication',
    email,
    password: 'correct horse battery',
  });
  const found = await management.users.list({ q: `email:"${email}"`, search_engine: 'v3' });
  assert.deepEqual(
    found.data.map((known) => known.user_id),
    [user.user_id],
  );
  const changed = await management.users.update(user.user_id, { blocked: true, user_metadata: { colour: 'blue' } });
  assert.equal(changed.blocked, true);
  assert.deepEqual(changed.user_metadata, { colour: 'blue' });
  await management.users.delete(user.user_id);
  await assert.rejects(management.users.get(user.user_id), (error) => {
    assert.ok(error instanceof ManagementError);
    assert.equal(error.statusCode, 404);
    return true;
  });
});

test('connected accounts of a user are listed, without their tokens', async () => {
  const connected = await Connected.at(SANDBOX);
  const [user] = (await management.users.list({ q: `username:"${connected.person.username}"` })).data;
  const accounts = await management.users.connectedAccounts.list(user.user_id);
  assert.equal(accounts.data.length, 1);
  assert.equal(accounts.data[0].connection, SANDBOX);
  assert.equal(accounts.data[0].access_type, 'offline');
});

test('the log is read, and lists go on page by page', async () => {
  const logs = await management.logs.list({ per_page: 5, include_totals: true });
  assert.ok(logs.data.length > 0);
  assert.ok(logs.data[0].log_id && logs.data[0].date && logs.data[0].type);
  const one = await management.logs.get(logs.data[0].log_id);
  assert.equal(one.log_id, logs.data[0].log_id);

  const names = new Set();
  for await (const client of await management.clients.list({ per_page: 2, include_totals: true })) names.add(client.name);
  assert.ok(names.has('Demo web application') && names.has('Made by node-auth0'));
});

test('keys, settings and figures are seen', async () => {
  const keys = await management.keys.signing.list();
  assert.ok(keys.some((key) => key.current));
  await management.tenants.settings.update({ friendly_name: 'Example Corp' });
  assert.equal((await management.tenants.settings.get()).friendly_name, 'Example Corp');
  assert.ok((await management.stats.getDaily()).length > 0);
  assert.ok(Number.isInteger(await management.stats.getActiveUsersCount()));
});

test('what is wrong is an error of the SDK, with the field', async () => {
  await assert.rejects(management.clients.create({ name: 'x', callbacks: ['nowhere'] }), (error) => {
    assert.ok(error instanceof ManagementError);
    assert.equal(error.statusCode, 400);
    assert.match(error.body.message, /callbacks/);
    return true;
  });
  const name = 'made-by-node-auth0';
  await assert.rejects(management.connections.create({ name, strategy: 'github', options: { client_id: 'a' } }), (error) => {
    assert.equal(error.statusCode, 409);
    return true;
  });
});
