// The npm package oauth2-mock-server as the external provider: its hooks break one answer at a time.

import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { OAuth2Server } from 'oauth2-mock-server';
import { Connected, eventually } from '../support/connected.js';
import { mock as place } from '../support/stage.js';

let server;
/** Seconds that its next access tokens live. */
let lifetime;
/** Access tokens that it has given, with the way they were asked for. */
let given;

before(async () => {
  server = new OAuth2Server(place.keyFile, place.certificateFile);
  await server.issuer.keys.generate('RS256');
  await server.start(place.port, 'localhost');
  server.issuer.url = place.issuer;
  server.service.on('beforeResponse', (answer, request) => {
    answer.body.expires_in = lifetime;
    given.push({ grantType: request.body.grant_type, token: answer.body.access_token });
  });
});

after(async () => {
  await server?.stop();
});

beforeEach(() => {
  lifetime = 2;
  given = [];
});

/** An account whose first token is over; from now on its tokens live long. */
async function withExpiredToken() {
  const dana = await Connected.at('mock');
  assert.equal(await dana.exchange(), given.at(-1).token);
  lifetime = 3600;
  await pause(2100);
  return dana;
}

test('connect, exchange, refresh across expiry, disconnect', async () => {
  const dana = await withExpiredToken();
  assert.equal(dana.account.provider_user_id, 'johndoe');
  const token = await dana.exchange();
  assert.deepEqual(given.at(-1), { grantType: 'refresh_token', token });
  assert.equal(await dana.exchange(), token);

  // It does not read which token it is.
  let revoked = 0;
  server.service.once('beforeRevoke', () => (revoked += 1));
  await dana.disconnect();
  await eventually(() => revoked === 1);
  await dana.assertRefused(401, 'federated_connection_refresh_token_not_found');
});

const broken = {
  'a server error': { breaks: (answer) => (answer.statusCode = 500), status: 503 },
  'too many requests': {
    breaks: (answer) => Object.assign(answer, { statusCode: 429, body: { error: 'slow_down' } }),
    status: 503,
  },
  'no access token': { breaks: (answer) => delete answer.body.access_token, status: 502 },
  'a token that is a number': { breaks: (answer) => (answer.body.access_token = 7), status: 502 },
  'another kind of token': { breaks: (answer) => (answer.body.token_type = 'mac'), status: 502 },
  'a list': { breaks: (answer) => (answer.body = []), status: 502 },
  'a wrong client': {
    breaks: (answer) => Object.assign(answer, { statusCode: 401, body: { error: 'invalid_client' } }),
    status: 502,
  },
};

for (const [name, { breaks, status }] of Object.entries(broken)) {
  test(`${name} in place of a refreshed token is nobody's fault but the provider's`, async () => {
    const dana = await withExpiredToken();
    server.service.once('beforeResponse', breaks);
    await dana.assertRefused(status);
    const [account] = await (await dana.myAccount()).accounts();
    assert.equal(account.status, 'active');
    assert.ok(account.last_failure);
    // Without a word about how long, requests that were too many wait half a minute; everything else a second.
    if (name === 'too many requests') return;
    await pause(1400);
    assert.equal(await dana.exchange(), given.at(-1).token);
  });
}

test('a grant that is over there has to be connected again', async () => {
  const dana = await withExpiredToken();
  server.service.once('beforeResponse', (answer) =>
    Object.assign(answer, { statusCode: 400, body: { error: 'invalid_grant' } }),
  );
  await dana.assertRefused(401, 'federated_connection_refresh_token_flow_failed');
  const asked = given.length;
  await dana.assertRefused(401, 'federated_connection_refresh_token_flow_failed');
  assert.equal(given.length, asked, 'the provider is left alone');
  const again = await dana.connect();
  assert.equal(again.id, dana.account.id);
});

const forged = {
  'another nonce': ({ payload }) => (payload.nonce = 'of another request'),
  'another issuer': ({ payload }) => (payload.iss = 'https://elsewhere.example'),
  'another audience': ({ payload }) => (payload.aud = 'another client'),
  'a time that is over': ({ payload }) => (payload.exp = 1),
};

for (const [name, forge] of Object.entries(forged)) {
  test(`an ID token with ${name} connects nothing, and what came with it is given back`, async () => {
    let revoked = 0;
    server.service.once('beforeRevoke', () => (revoked += 1));
    // Access tokens are signed by the same hook; the ID token is the one with a nonce.
    const onSigning = (token) => {
      if (token.payload.nonce) forge(token);
    };
    server.service.on('beforeTokenSigning', onSigning);
    try {
      await assert.rejects(Connected.at('mock'), /complete: 502/);
    } finally {
      server.service.off('beforeTokenSigning', onSigning);
    }
    await eventually(() => revoked === 1);
  });
}
