// auth0 4.x (node-auth0): its authentication client's exchange, which sends no client_id.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { AuthApiError, AuthenticationClient } from 'auth0';
import { newPerson } from '../support/person.js';
import { assertSandboxToken } from '../support/sandbox.js';
import { SANDBOX, vault } from '../support/stage.js';
import { connectAccount, logIn } from '../support/web-app.js';

const { client_id, client_secret } = vault.clients.web;
const { oauth } = new AuthenticationClient({ domain: vault.domain, clientId: client_id, clientSecret: client_secret });

let person;
let refreshToken;

before(async () => {
  person = await newPerson();
  ({ refreshToken } = await logIn(person));
});

test('before an account is connected, tokenForConnection says that there is none', async () => {
  await assert.rejects(oauth.tokenForConnection({ connection: SANDBOX, subject_token: refreshToken }), (error) => {
    assert.ok(error instanceof AuthApiError);
    assert.equal(error.error, 'federated_connection_refresh_token_not_found');
    assert.equal(error.statusCode, 401);
    return true;
  });
});

test('tokenForConnection gives the token of the provider once it is connected', async () => {
  await connectAccount(person, refreshToken, SANDBOX);
  const { status, data } = await oauth.tokenForConnection({ connection: SANDBOX, subject_token: refreshToken });
  assert.equal(status, 200);
  assert.equal(data.token_type, 'Bearer');
  assert.ok(Number.isInteger(data.expires_in) && data.expires_in > 0);
  assert.ok(data.scope.split(' ').includes('files.read'));
  await assertSandboxToken(data.access_token);
});

test('a secret that is not of the client that the refresh token was given to is refused', async () => {
  const stranger = new AuthenticationClient({
    domain: vault.domain,
    clientId: client_id,
    clientSecret: vault.clients.api.client_secret,
  });
  await assert.rejects(
    stranger.oauth.tokenForConnection({ connection: SANDBOX, subject_token: refreshToken }),
    (error) => {
      assert.ok(error instanceof AuthApiError);
      assert.equal(error.statusCode, 401);
      assert.equal(error.error, 'invalid_client');
      return true;
    },
  );
});
