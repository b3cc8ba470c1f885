// @auth0/auth0-auth-js: what a web application and an API do with the vault.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import {
  AuthClient,
  TokenByRefreshTokenError,
  TokenExchangeError,
  TokenForConnectionError,
} from '@auth0/auth0-auth-js';
import { newPerson } from '../support/person.js';
import { assertSandboxToken } from '../support/sandbox.js';
import { ME_AUDIENCE, SANDBOX, vault } from '../support/stage.js';
import { connectAccount } from '../support/web-app.js';

const REFRESH_TOKEN = 'urn:ietf:params:oauth:token-type:refresh_token';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const VAULT_TOKEN = 'http://auth0.com/oauth/token-type/federated-connection-access-token';

const { web, api } = vault.clients;
const webClient = new AuthClient({
  domain: vault.domain,
  clientId: web.client_id,
  clientSecret: web.client_secret,
  authorizationParams: { redirect_uri: web.redirect_uri },
});
const apiClient = new AuthClient({ domain: vault.domain, clientId: api.client_id, clientSecret: api.client_secret });

let person;
let tokens;

before(async () => {
  person = await newPerson();
  tokens = await logIn();
});

async function logIn(options) {
  const { authorizationUrl, codeVerifier } = await webClient.buildAuthorizationUrl(options);
  const callback = await person.goTo(authorizationUrl, web.redirect_uri);
  return webClient.getTokenByCode(callback, { codeVerifier });
}

/** The access token with which the web application calls the demo's API. */
async function apiToken() {
  const { accessToken } = await webClient.getTokenByRefreshToken({
    refreshToken: tokens.refreshToken,
    audience: api.audience,
  });
  return accessToken;
}

function claimsOf(jwt) {
  return JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'));
}

test('a code buys an ID token, an access token and a refresh token', async () => {
  assert.equal(tokens.claims.iss, vault.issuer);
  assert.equal(tokens.claims.aud, web.client_id);
  assert.ok(tokens.claims.sub);
  assert.ok(tokens.claims.sid);
  assert.ok(tokens.refreshToken);
  assert.ok(tokens.expiresAt > Date.now() / 1000);
  const granted = tokens.scope.split(' ').sort();
  assert.deepEqual(granted, ['email', 'offline_access', 'openid', 'profile']);

  const user = await webClient.getUserInfo({ accessToken: tokens.accessToken, expectedSubject: tokens.claims.sub });
  assert.equal(user.email, person.loginAt(new URL(vault.issuer).origin).username);
});

test('the request can be pushed', async () => {
  const { authorizationUrl } = await webClient.buildAuthorizationUrl({ pushedAuthorizationRequests: true });
  assert.match(authorizationUrl.searchParams.get('request_uri'), /^urn:ietf:params:oauth:request_uri:./);
  const pushed = await logIn({ pushedAuthorizationRequests: true });
  assert.equal(pushed.claims.sub, tokens.claims.sub);
});

test('one refresh token buys access tokens for other APIs', async () => {
  for (const [audience, scope] of [
    [api.audience, 'read:reports'],
    [ME_AUDIENCE, 'read:me:connected_accounts'],
  ]) {
    const refreshed = await webClient.getTokenByRefreshToken({ refreshToken: tokens.refreshToken, audience, scope });
    const claims = claimsOf(refreshed.accessToken);
    assert.deepEqual([claims.aud].flat(), [audience]);
    assert.equal(claims.sub, tokens.claims.sub);
    assert.equal(claims.scope, scope);
    assert.ok(refreshed.scope.split(' ').includes(scope));
  }
});

test('before an account is connected, an exchange says that there is none', async () => {
  for (const [client, subjectToken, subjectTokenType] of [
    [webClient, tokens.refreshToken, REFRESH_TOKEN],
    [apiClient, await apiToken(), ACCESS_TOKEN],
  ]) {
    await assert.rejects(client.exchangeToken({ connection: SANDBOX, subjectToken, subjectTokenType }), (error) => {
      assert.ok(error instanceof TokenExchangeError);
      assert.equal(error.cause.error, 'federated_connection_refresh_token_not_found');
      assert.equal(error.statusCode, 401);
      return true;
    });
  }
  await assert.rejects(
    webClient.getTokenForConnection({ connection: SANDBOX, refreshToken: tokens.refreshToken }),
    (error) => {
      assert.ok(error instanceof TokenForConnectionError);
      assert.equal(error.cause.error, 'federated_connection_refresh_token_not_found');
      return true;
    },
  );
});

test('once it is connected, every exchange gives the token of the provider', async () => {
  await connectAccount(person, tokens.refreshToken, SANDBOX);
  const accessToken = await apiToken();
  const [{ username }] = vault.sandbox.accounts;
  const answers = [
    await webClient.exchangeToken({
      connection: SANDBOX,
      subjectToken: tokens.refreshToken,
      subjectTokenType: REFRESH_TOKEN,
    }),
    await webClient.exchangeToken({
      connection: SANDBOX,
      subjectToken: tokens.refreshToken,
      subjectTokenType: REFRESH_TOKEN,
      loginHint: username,
    }),
    await apiClient.exchangeToken({ connection: SANDBOX, subjectToken: accessToken, subjectTokenType: ACCESS_TOKEN }),
  ];
  for (const answer of answers) {
    assert.equal(answer.issuedTokenType, VAULT_TOKEN);
    assert.equal(answer.tokenType, 'bearer');
    assert.ok(answer.expiresAt > Date.now() / 1000);
    assert.ok(answer.scope.split(' ').includes('files.read'));
    assert.equal(answer.refreshToken, undefined);
    await assertSandboxToken(answer.accessToken);
  }
});

test('getTokenForConnection takes a refresh token and an access token', async () => {
  const forWeb = await webClient.getTokenForConnection({ connection: SANDBOX, refreshToken: tokens.refreshToken });
  await assertSandboxToken(forWeb.accessToken);
  const forApi = await apiClient.getTokenForConnection({ connection: SANDBOX, accessToken: await apiToken() });
  await assertSandboxToken(forApi.accessToken);
});

test('an account that the login hint does not name is not given', async () => {
  await assert.rejects(
    webClient.exchangeToken({
      connection: SANDBOX,
      subjectToken: tokens.refreshToken,
      subjectTokenType: REFRESH_TOKEN,
      loginHint: vault.sandbox.accounts[1].username,
    }),
    (error) => {
      assert.equal(error.cause.error, 'user_not_found');
      return true;
    },
  );
});

test("an API cannot exchange a token that was made for another's ears", async () => {
  const { accessToken } = await webClient.getTokenByRefreshToken({
    refreshToken: tokens.refreshToken,
    audience: ME_AUDIENCE,
  });
  await assert.rejects(
    apiClient.exchangeToken({ connection: SANDBOX, subjectToken: accessToken, subjectTokenType: ACCESS_TOKEN }),
    (error) => {
      assert.ok(error instanceof TokenExchangeError);
      assert.ok([401, 403].includes(error.statusCode), `${error.statusCode}`);
      return true;
    },
  );
});

test('a client gets a token for itself', async () => {
  const answer = await webClient.getTokenByClientCredentials({ audience: api.audience });
  const claims = claimsOf(answer.accessToken);
  assert.deepEqual([claims.aud].flat(), [api.audience]);
  assert.ok(answer.expiresAt > Date.now() / 1000);
  assert.equal(answer.refreshToken, undefined);
});

test('a revoked refresh token buys nothing more', async () => {
  const { refreshToken } = await logIn();
  await webClient.revokeToken({ token: refreshToken, tokenTypeHint: 'refresh_token' });
  await assert.rejects(webClient.getTokenByRefreshToken({ refreshToken }), (error) => {
    assert.ok(error instanceof TokenByRefreshTokenError);
    assert.equal(error.cause.error, 'invalid_grant');
    return true;
  });
  await assert.rejects(
    webClient.exchangeToken({ connection: SANDBOX, subjectToken: refreshToken, subjectTokenType: REFRESH_TOKEN }),
    (error) => error.cause.error === 'invalid_grant',
  );
});

test('logging out ends the session at the vault', async () => {
  const silently = async () => {
    const { authorizationUrl } = await webClient.buildAuthorizationUrl({
      authorizationParams: { redirect_uri: web.redirect_uri, prompt: 'none' },
    });
    return (await person.goTo(authorizationUrl, web.redirect_uri)).searchParams;
  };
  assert.ok((await silently()).has('code'));

  const returnTo = 'http://localhost:3000/';
  const logoutUrl = await webClient.buildLogoutUrl({ returnTo });
  assert.equal(logoutUrl.origin, new URL(vault.issuer).origin);
  assert.equal((await person.goTo(logoutUrl, returnTo)).href, returnTo);

  assert.equal((await silently()).get('error'), 'login_required');
});
