// openid-client: a certified OpenID Connect client that knows nothing of Auth0.

import assert from 'node:assert/strict';
import { createPrivateKey, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { before, test } from 'node:test';
import * as openid from 'openid-client';
import { newPerson } from '../support/person.js';
import { assertSandboxToken } from '../support/sandbox.js';
import { SANDBOX, vault } from '../support/stage.js';
import { connectAccount } from '../support/web-app.js';

const TOKEN_EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const VAULT_EXCHANGE = 'urn:auth0:params:oauth:grant-type:token-exchange:federated-connection-access-token';
const FEDERATED_TOKEN = 'http://auth0.com/oauth/token-type/federated-connection-access-token';
const WORKER_TOKEN = 'http://auth0.com/oauth/token-type/token-vault-access-token';

const { web, worker } = vault.clients;

let config;
let person;
let tokens;

before(async () => {
  person = await newPerson();
  config = await openid.discovery(new URL(vault.issuer), web.client_id, web.client_secret);
  // By default it takes what comes from the token endpoint over TLS for true; this makes it check signatures as well.
  openid.enableNonRepudiationChecks(config);
  tokens = await logIn();
});

async function logIn(more = {}) {
  const pkceCodeVerifier = openid.randomPKCECodeVerifier();
  const expectedState = openid.randomState();
  const expectedNonce = openid.randomNonce();
  const start = openid.buildAuthorizationUrl(config, {
    redirect_uri: web.redirect_uri,
    scope: 'openid profile email offline_access',
    code_challenge: await openid.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: 'S256',
    state: expectedState,
    nonce: expectedNonce,
    ...more,
  });
  const callback = await person.goTo(start, web.redirect_uri);
  return openid.authorizationCodeGrant(config, callback, {
    pkceCodeVerifier,
    expectedState,
    expectedNonce,
    idTokenExpected: true,
    ...(more.max_age !== undefined && { maxAge: Number(more.max_age) }),
  });
}

test('discovery names what the vault offers', () => {
  const metadata = config.serverMetadata();
  assert.equal(metadata.issuer, vault.issuer);
  assert.ok(metadata.supportsPKCE());
  assert.equal(metadata.authorization_response_iss_parameter_supported, true);
  for (const endpoint of [
    'authorization',
    'token',
    'userinfo',
    'revocation',
    'pushed_authorization_request',
    'end_session',
  ]) {
    assert.ok(metadata[`${endpoint}_endpoint`].startsWith(vault.issuer), endpoint);
  }
});

test('the code flow with PKCE, state and nonce', () => {
  const claims = tokens.claims();
  assert.equal(claims.iss, vault.issuer);
  assert.equal(claims.aud, web.client_id);
  assert.ok(tokens.refresh_token);
  assert.ok(tokens.expiresIn() > 0);
});

test('with max_age the time of the login comes along', async () => {
  const again = await logIn({ max_age: '3600' });
  assert.ok(Math.abs(again.claims().auth_time - Date.now() / 1000) < 3600);
});

test('a code buys tokens only with the verifier that it was asked for with', async () => {
  const expectedState = openid.randomState();
  const start = openid.buildAuthorizationUrl(config, {
    redirect_uri: web.redirect_uri,
    scope: 'openid',
    code_challenge: await openid.calculatePKCECodeChallenge(openid.randomPKCECodeVerifier()),
    code_challenge_method: 'S256',
    state: expectedState,
  });
  const callback = await person.goTo(start, web.redirect_uri);
  const pkceCodeVerifier = openid.randomPKCECodeVerifier();
  await assert.rejects(
    openid.authorizationCodeGrant(config, callback, { pkceCodeVerifier, expectedState }),
    (error) => {
      assert.ok(error instanceof openid.ResponseBodyError, `${error}`);
      assert.equal(error.error, 'invalid_grant');
      return true;
    },
  );
});

test('userinfo is about the person who logged in', async () => {
  const user = await openid.fetchUserInfo(config, tokens.access_token, tokens.claims().sub);
  assert.equal(user.email, person.loginAt(new URL(vault.issuer).origin).username);
  await assert.rejects(openid.fetchUserInfo(config, 'no token', openid.skipSubjectCheck), (error) => {
    assert.equal((error.response ?? error.cause)?.status, 401);
    return true;
  });
});

test('a refresh token is refreshed, revoked, and then worthless', async () => {
  const { refresh_token } = await logIn();
  const refreshed = await openid.refreshTokenGrant(config, refresh_token);
  assert.equal(refreshed.claims().sub, tokens.claims().sub);
  assert.notEqual(refreshed.access_token, tokens.access_token);

  await openid.tokenRevocation(config, refresh_token);
  await assert.rejects(openid.refreshTokenGrant(config, refresh_token), (error) => {
    assert.ok(error instanceof openid.ResponseBodyError, `${error}`);
    assert.equal(error.error, 'invalid_grant');
    return true;
  });
  // Revoking what is not there is no error (RFC 7009).
  await openid.tokenRevocation(config, refresh_token);
});

test('every way to authenticate as a client works', async () => {
  for (const method of [openid.ClientSecretPost, openid.ClientSecretBasic]) {
    const metadata = await openid.discovery(
      new URL(vault.issuer),
      web.client_id,
      web.client_secret,
      method(web.client_secret),
    );
    const answer = await openid.clientCredentialsGrant(metadata, { audience: web.audience });
    assert.ok(answer.expiresIn() > 0);
  }
  const wrong = await openid.discovery(new URL(vault.issuer), web.client_id, 'not the secret');
  await assert.rejects(openid.clientCredentialsGrant(wrong, { audience: web.audience }), (error) => {
    assert.ok(error instanceof openid.ResponseBodyError, `${error}`);
    assert.equal(error.error, 'invalid_client');
    assert.equal(error.status, 401);
    return true;
  });
});

test('the vault exchanges by the grant of RFC 8693 too', async () => {
  await connectAccount(person, tokens.refresh_token, SANDBOX);
  const answer = await openid.genericGrantRequest(config, TOKEN_EXCHANGE, {
    subject_token: tokens.refresh_token,
    subject_token_type: 'urn:ietf:params:oauth:token-type:refresh_token',
    requested_token_type: FEDERATED_TOKEN,
    connection: SANDBOX,
  });
  assert.equal(answer.issued_token_type, FEDERATED_TOKEN);
  await assertSandboxToken(answer.access_token);
});

test('a worker exchanges what it signed itself, once', async () => {
  const workerConfig = await openid.discovery(new URL(vault.issuer), worker.client_id, worker.client_secret);
  const request = {
    subject_token: workerRequest(tokens.claims().sub),
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    requested_token_type: WORKER_TOKEN,
    connection: SANDBOX,
  };
  const answer = await openid.genericGrantRequest(workerConfig, VAULT_EXCHANGE, request);
  assert.equal(answer.issued_token_type, WORKER_TOKEN);
  await assertSandboxToken(answer.access_token);

  await assert.rejects(openid.genericGrantRequest(workerConfig, VAULT_EXCHANGE, request), (error) => {
    assert.ok(error instanceof openid.ResponseBodyError, `${error}`);
    return true;
  });
});

/** The worker's signed word on whose account it means, and why. */
function workerRequest(userId) {
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const signed = [
    encode({ alg: worker.alg, kid: worker.kid, typ: 'token-vault-req+jwt' }),
    encode({
      iss: worker.client_id,
      sub: userId,
      aud: vault.issuer,
      iat: now,
      exp: now + 60,
      jti: randomUUID(),
      audit_context: 'a test of the nightly report',
    }),
  ].join('.');
  assert.equal(worker.alg, 'RS256');
  const signature = sign('RSA-SHA256', Buffer.from(signed), createPrivateKey(readFileSync(worker.private_key_file)));
  return `${signed}.${signature.toString('base64url')}`;
}
