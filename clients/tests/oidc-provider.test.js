// The npm package oidc-provider as the external provider, in two ways: found by its issuer, as an `oidc` connection, and
// by plain endpoints, as an `oauth2` connection.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { eventually } from '../support/connected.js';
import { OtherProvider } from '../support/other-provider.js';
import { newPerson } from '../support/person.js';
import { provider as place, vault } from '../support/stage.js';
import { logIn, myAccountOf, REDIRECT_URI, webApp } from '../support/web-app.js';

const REFRESH_TOKEN = 'urn:ietf:params:oauth:token-type:refresh_token';

let provider;

before(async () => {
  provider = await OtherProvider.start();
});

after(async () => {
  await provider?.stop();
});

for (const connection of ['other-oidc', 'other-oauth2']) {
  test(`${connection}: connect, exchange, refresh, expire, disconnect`, async () => {
    provider.refreshes.length = 0;
    provider.accessTokenLifetime = 300;
    const person = await newPerson();
    const { refreshToken } = await logIn(person);
    const { username } = person.loginAt(place.issuer);
    const exchange = (more) =>
      webApp.exchangeToken({ connection, subjectToken: refreshToken, subjectTokenType: REFRESH_TOKEN, ...more });
    // More than any token of this provider has left, so the vault has to ask it for a new one.
    const exchangeAnew = () => exchange({ extra: { min_ttl: '3000' } });
    const assertIsOfPerson = async (accessToken) => {
      assert.equal((await provider.userinfo(accessToken))?.sub, username);
    };

    const myAccount = await myAccountOf(refreshToken);
    const account = await myAccount.connectAccount(person, connection, REDIRECT_URI);
    assert.match(account.id, /^cac_[A-Za-z0-9]+$/);
    assert.equal(account.connection, connection);
    assert.deepEqual(
      (await myAccount.accounts()).map(({ id }) => id),
      [account.id],
    );

    // A fresh token is handed out as it is, as often as it is asked for.
    const first = await exchange();
    await assertIsOfPerson(first.accessToken);
    assert.equal((await exchange()).accessToken, first.accessToken);
    assert.equal((await exchange({ loginHint: username })).accessToken, first.accessToken);
    assert.equal(provider.refreshes.length, 0);

    // Refreshed twice: the second refresh works only with the refresh token that the first one brought.
    const second = await exchangeAnew();
    assert.notEqual(second.accessToken, first.accessToken);
    await assertIsOfPerson(second.accessToken);
    // The next token lives for two seconds only, and is replaced once they are over.
    provider.accessTokenLifetime = 2;
    const third = await exchangeAnew();
    assert.notEqual(third.accessToken, second.accessToken);
    assert.equal(provider.refreshes.length, 2);
    assert.notEqual(provider.refreshes[0].issued, provider.refreshes[0].presented);
    assert.equal(provider.refreshes[1].presented, provider.refreshes[0].issued);

    provider.accessTokenLifetime = 300;
    let fourth = await exchange();
    for (let attempt = 0; fourth.accessToken === third.accessToken && attempt < 100; attempt += 1) {
      await pause(50);
      fourth = await exchange();
    }
    assert.notEqual(fourth.accessToken, third.accessToken);
    await assertIsOfPerson(fourth.accessToken);
    assert.equal(provider.refreshes.length, 3);

    await myAccount.disconnect(account.id);
    assert.deepEqual(await myAccount.accounts(), []);
    await eventually(async () => (await provider.userinfo(fourth.accessToken)) === undefined);
    await assert.rejects(exchange(), (error) => {
      assert.equal(error.cause.error, 'federated_connection_refresh_token_not_found');
      return true;
    });
  });

  test(`${connection}: many exchanges of one expired token refresh it once`, async () => {
    provider.accessTokenLifetime = 300;
    const person = await newPerson();
    const { refreshToken } = await logIn(person);
    const myAccount = await myAccountOf(refreshToken);
    await myAccount.connectAccount(person, connection, REDIRECT_URI);
    const exchange = (more) =>
      webApp.exchangeToken({ connection, subjectToken: refreshToken, subjectTokenType: REFRESH_TOKEN, ...more });

    provider.accessTokenLifetime = 2;
    const expiring = await exchange({ extra: { min_ttl: '3000' } });
    provider.accessTokenLifetime = 300;
    provider.refreshes.length = 0;
    // Nobody may ask before its two seconds are over: whoever did might be given it, or be the one who replaces it.
    await pause(2100);
    const answers = await Promise.all(Array.from({ length: 20 }, () => exchange()));
    assert.equal(new Set(answers.map(({ accessToken }) => accessToken)).size, 1);
    assert.notEqual(answers[0].accessToken, expiring.accessToken);
    assert.equal((await provider.userinfo(answers[0].accessToken))?.sub, person.loginAt(place.issuer).username);
    assert.equal(provider.refreshes.length, 1);
  });

  test(`${connection}: once the person takes the grant back at the provider, an exchange says to connect again`, async () => {
    provider.refreshes.length = 0;
    provider.accessTokenLifetime = 300;
    const person = await newPerson();
    const { refreshToken } = await logIn(person);
    const myAccount = await myAccountOf(refreshToken);
    const account = await myAccount.connectAccount(person, connection, REDIRECT_URI);
    const exchangeAnew = () =>
      webApp.exchangeToken({
        connection,
        subjectToken: refreshToken,
        subjectTokenType: REFRESH_TOKEN,
        extra: { min_ttl: '3000' },
      });

    await exchangeAnew();
    await provider.endGrantOf(provider.refreshes.at(-1).issued);
    await assert.rejects(exchangeAnew(), (error) => {
      assert.equal(error.cause.error, 'federated_connection_refresh_token_flow_failed');
      assert.equal(error.statusCode, 401);
      return true;
    });

    // Connecting the same account again renews it.
    const again = await myAccount.connectAccount(person, connection, REDIRECT_URI);
    assert.equal(again.id, account.id);
    const renewed = await exchangeAnew();
    assert.equal((await provider.userinfo(renewed.accessToken))?.sub, person.loginAt(place.issuer).username);
  });
}

test('a person who says no at the provider is sent back with an error, and nothing is connected', async () => {
  const person = await newPerson();
  const { refreshToken } = await logIn(person);
  const myAccount = await myAccountOf(refreshToken);
  person.refuseAt(place.issuer);
  await assert.rejects(myAccount.connectAccount(person, 'other-oidc', REDIRECT_URI), /access_denied/);
  assert.deepEqual(await myAccount.accounts(), []);
});

test('a person who says no at the vault is sent back with an error, and nothing is connected', async () => {
  const person = await newPerson();
  const { refreshToken } = await logIn(person);
  const { accessToken } = await webApp.getTokenByRefreshToken({ refreshToken, audience: `${vault.issuer}me/` });
  const started = await fetch(`${vault.issuer}me/v1/connected-accounts/connect`, {
    method: 'POST',
    headers: { authorization: `Bearer ${accessToken}`, 'content-type': 'application/json' },
    body: JSON.stringify({ connection: 'other-oidc', redirect_uri: REDIRECT_URI, state: 'kept' }),
  });
  assert.equal(started.status, 201);
  const { connect_uri, connect_params } = await started.json();
  const start = new URL(connect_uri);
  start.searchParams.set('ticket', connect_params.ticket);
  const { searchParams } = await person.goTo(start, REDIRECT_URI, { press: 'cancel' });
  assert.equal(searchParams.get('error'), 'access_denied');
  assert.equal(searchParams.get('state'), 'kept');
  assert.equal(searchParams.has('connect_code'), false);
  assert.deepEqual(await (await myAccountOf(refreshToken)).accounts(), []);
});
