// @auth0/auth0-server-js: a server that keeps its users' sessions.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { TokenForConnectionError } from '@auth0/auth0-auth-js';
import { ServerClient } from '@auth0/auth0-server-js';
import { newPerson } from '../support/person.js';
import { assertSandboxToken } from '../support/sandbox.js';
import { ME_AUDIENCE, SANDBOX, vault } from '../support/stage.js';
import { connectAccount } from '../support/web-app.js';

const { client_id, client_secret, redirect_uri, audience } = vault.clients.web;

/** A store as the SDK asks for: what it keeps is gone with the test. */
class MemoryStore {
  #entries = new Map();

  async get(identifier) {
    return this.#entries.get(identifier);
  }

  async set(identifier, data) {
    this.#entries.set(identifier, data);
  }

  async delete(identifier) {
    this.#entries.delete(identifier);
  }

  async deleteByLogoutToken({ sid }) {
    for (const [identifier, { internal }] of this.#entries) {
      if (internal?.sid === sid) this.#entries.delete(identifier);
    }
  }
}

const server = new ServerClient({
  domain: vault.domain,
  clientId: client_id,
  clientSecret: client_secret,
  authorizationParams: { redirect_uri },
  transactionStore: new MemoryStore(),
  stateStore: new MemoryStore(),
});

let person;

before(async () => {
  person = await newPerson();
});

test('an interactive login makes a session', async () => {
  const start = await server.startInteractiveLogin({ appState: { page: '/reports' } });
  const callback = await person.goTo(start, redirect_uri);
  const { appState } = await server.completeInteractiveLogin(callback);
  assert.deepEqual(appState, { page: '/reports' });
  const user = await server.getUser();
  assert.equal(user.email, person.loginAt(new URL(vault.issuer).origin).username);
  assert.ok((await server.getSession()).refreshToken);
});

test('getAccessToken gets tokens for the APIs asked for', async () => {
  const forApi = await server.getAccessToken({ audience, scope: 'read:reports' });
  const forMe = await server.getAccessToken({ audience: ME_AUDIENCE, scope: 'read:me:connected_accounts' });
  assert.notEqual(forApi.accessToken, forMe.accessToken);
  assert.ok(forApi.scope.split(' ').includes('read:reports'));
  assert.ok(forMe.expiresAt > Date.now() / 1000);

  const accounts = await fetch(`${ME_AUDIENCE}v1/connected-accounts/accounts`, {
    headers: { authorization: `Bearer ${forMe.accessToken}` },
  });
  assert.equal(accounts.status, 200);
  assert.deepEqual((await accounts.json()).accounts, []);
});

test('getAccessTokenForConnection gives the token of the provider once it is connected', async () => {
  await assert.rejects(server.getAccessTokenForConnection({ connection: SANDBOX }), (error) => {
    assert.ok(error instanceof TokenForConnectionError);
    assert.equal(error.cause.error, 'federated_connection_refresh_token_not_found');
    return true;
  });

  const { refreshToken } = await server.getSession();
  await connectAccount(person, refreshToken, SANDBOX);
  const answer = await server.getAccessTokenForConnection({ connection: SANDBOX });
  assert.equal(answer.connection, SANDBOX);
  assert.ok(answer.expiresAt > Date.now() / 1000);
  assert.ok(answer.scope.split(' ').includes('files.read'));
  await assertSandboxToken(answer.accessToken);
});

test('logging out ends the session at both ends and the refresh token', async () => {
  const { refreshToken } = await server.getSession();
  const returnTo = 'http://localhost:3000/';
  const logoutUrl = await server.logout({ returnTo });
  assert.equal(await server.getUser(), undefined);
  assert.equal((await person.goTo(logoutUrl, returnTo)).href, returnTo);

  const again = await server.startInteractiveLogin({ authorizationParams: { redirect_uri, prompt: 'none' } });
  const callback = await person.goTo(again, redirect_uri);
  assert.equal(callback.searchParams.get('error'), 'login_required');
  await assert.rejects(
    server.authClient.getTokenByRefreshToken({ refreshToken }),
    (error) => error.cause.error === 'invalid_grant',
  );
});
