// The PyPI package django-oauth-toolkit as the external provider: a Django site as many people run one, with refresh
// tokens that rotate and a grace period in which a used one still works.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Connected, eventually } from '../support/connected.js';
import { DjangoProvider } from '../support/django-provider.js';
import { django as place } from '../support/stage.js';

const ACCESS_SECONDS = 3;

let provider;

before(async () => {
  provider = await DjangoProvider.start({ accessSeconds: ACCESS_SECONDS, graceSeconds: 120 });
});

after(async () => {
  await provider?.stop();
});

/** Until the last access token is over. */
const expiry = () => pause(ACCESS_SECONDS * 1000 + 100);

test('connect, exchange, refresh across expiry, disconnect', async () => {
  const dana = await Connected.at('django');
  const { username } = dana.person.loginAt(place.origin);
  assert.equal(dana.account.login, username);
  assert.equal(dana.account.email, `${username}@django.example`);

  const seen = new Set();
  for (let round = 0; round < 3; round += 1) {
    const token = await dana.exchange();
    assert.equal((await provider.me(token))?.username, username);
    seen.add(token);
    await expiry();
    assert.equal(await provider.me(token), undefined);
  }
  assert.equal(seen.size, 3);

  // Many at once are one refresh: each gets the same token.
  const together = new Set(await Promise.all(Array.from({ length: 10 }, () => dana.exchange())));
  assert.equal(together.size, 1);
  const [last] = together;
  assert.equal((await provider.me(last))?.username, username);

  await dana.disconnect();
  await dana.assertRefused(401, 'federated_connection_refresh_token_not_found');
  // Sooner than it ends by itself.
  const began = Date.now();
  await eventually(async () => (await provider.me(last)) === undefined);
  assert.ok(Date.now() - began < ACCESS_SECONDS * 1000 - 500, 'the token is dead because it was given back');
});

test('once the person takes the grant back there, an exchange says to connect again, and connecting heals it', async () => {
  const dana = await Connected.at('django');
  await provider.revoke(dana.person.loginAt(place.origin).username);
  await expiry();
  await dana.assertRefused(401, 'federated_connection_refresh_token_flow_failed');
  const [account] = await (await dana.myAccount()).accounts();
  assert.equal(account.status, 'reauthorization_required');
  assert.equal(account.status_reason, 'invalid_grant');

  const again = await dana.connect();
  assert.equal(again.id, dana.account.id);
  assert.equal(again.status, 'active');
  assert.ok(await provider.me(await dana.exchange()));
});
