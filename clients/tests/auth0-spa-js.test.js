// @auth0/auth0-spa-js in Chromium: a single-page application that logs people in and connects their accounts. What it
// cannot do itself, the exchange, its API does with the access token that the application calls it with.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { AuthClient } from '@auth0/auth0-auth-js';
import { openBrowser } from '../support/chromium.js';
import { newPerson } from '../support/person.js';
import { assertSandboxToken } from '../support/sandbox.js';
import { startSpa } from '../support/spa.js';
import { ME_AUDIENCE, SANDBOX, vault } from '../support/stage.js';

const { spa, api } = vault.clients;
const ALWAYS = ['openid', 'profile', 'email', 'offline_access'];
const apiClient = new AuthClient({ domain: vault.domain, clientId: api.client_id, clientSecret: api.client_secret });

let site;
let browser;

before(async () => {
  site = await startSpa(spa.redirect_uri);
  browser = await openBrowser();
});

after(async () => {
  await browser?.close();
  await site?.stop();
});

for (const cacheLocation of ['localstorage', 'memory']) {
  describe(`with tokens kept in ${cacheLocation}`, { timeout: 120_000 }, () => {
    const clientOptions = {
      domain: vault.domain,
      clientId: spa.client_id,
      cacheLocation,
      useRefreshTokens: true,
      useMrrt: true,
      authorizationParams: { redirect_uri: spa.redirect_uri, scope: 'openid profile email offline_access' },
    };
    let person;
    let page;

    before(async () => {
      person = await newPerson();
      page = await browser.newPage(person);
      await page.goto(spa.redirect_uri);
      await createClient();
    });

    after(async () => {
      await page?.close();
    });

    /** A client as the application makes one whenever its page is loaded. */
    function createClient() {
      return page.evaluate((options) => {
        window.client = new window.auth0.Auth0Client(options);
      }, clientOptions);
    }

    /** Has the SDK send the browser away, goes on until it is back, and has the SDK read the answer. */
    async function sendAndReturn(method, options) {
      await page.evaluate(
        async ([name, given]) => {
          await window.client[name]({
            ...given,
            openUrl: (url) => {
              window.next = url;
            },
          });
        },
        [method, options],
      );
      // Outside of the SDK's call, so that what goes wrong in the call is not lost with the page.
      await page.leave(() => window.location.assign(window.next));
      await page.walkTo(spa.redirect_uri);
      await createClient();
    }

    function handleRedirectCallback() {
      return page.evaluate(() =>
        window.client.handleRedirectCallback().then(
          (result) => ({ result }),
          ({ error }) => ({ error }),
        ),
      );
    }

    function getTokenSilently(audience, scope, more = {}) {
      return page.evaluate((options) => window.client.getTokenSilently(options), {
        authorizationParams: { audience, scope },
        detailedResponse: true,
        ...more,
      });
    }

    test('loginWithRedirect and handleRedirectCallback log the person in', async () => {
      await sendAndReturn('loginWithRedirect', { appState: { page: '/reports' } });
      const { result } = await handleRedirectCallback();
      assert.deepEqual(result.appState, { page: '/reports' });
      const user = await page.evaluate(() => window.client.getUser());
      assert.equal(user.email, person.loginAt(new URL(vault.issuer).origin).username);
    });

    test('getTokenSilently gets tokens for several audiences from one refresh token, time after time', async () => {
      for (const [audience, scope] of [
        [api.audience, 'read:reports'],
        [ME_AUDIENCE, 'read:me:connected_accounts'],
        [api.audience, 'read:reports write:reports'],
      ]) {
        const tokens = [];
        for (const cacheMode of ['off', 'on', 'off']) {
          const answer = await getTokenSilently(audience, scope, { cacheMode });
          const granted = answer.scope.split(' ');
          for (const wanted of [...ALWAYS, ...scope.split(' ')])
            assert.ok(granted.includes(wanted), `${wanted} of ${answer.scope}`);
          const claims = JSON.parse(Buffer.from(answer.access_token.split('.')[1], 'base64url'));
          assert.deepEqual([claims.aud].flat(), [audience]);
          tokens.push(answer.access_token);
        }
        // The second came from the SDK's cache, the third from the vault with a rotated refresh token.
        assert.equal(tokens[1], tokens[0]);
        assert.notEqual(tokens[2], tokens[1]);
      }
    });

    if (cacheLocation === 'localstorage') {
      // What is kept in memory is gone when the browser comes back from the provider.
      test('connectAccountWithRedirect connects an account, and the API gets its token', async () => {
        await sendAndReturn('connectAccountWithRedirect', {
          connection: SANDBOX,
          scopes: ['openid', 'email', 'files.read'],
          appState: { page: '/settings' },
        });
        const { result, error } = await handleRedirectCallback();
        assert.equal(error, undefined);
        assert.equal(result.response_type, 'connect_code');
        assert.equal(result.connection, SANDBOX);
        assert.match(result.id, /^cac_[A-Za-z0-9]+$/);
        assert.deepEqual(result.appState, { page: '/settings' });
        assert.ok(result.scopes.includes('files.read'));

        const { access_token } = await getTokenSilently(api.audience, 'read:reports');
        const answer = await apiClient.getTokenForConnection({ connection: SANDBOX, accessToken: access_token });
        await assertSandboxToken(answer.accessToken);
      });
    }

    test('logout ends the session at both ends', async () => {
      await sendAndReturn('logout', { logoutParams: { returnTo: spa.redirect_uri } });
      assert.equal(await page.evaluate(() => window.client.isAuthenticated()), false);
      await sendAndReturn('loginWithRedirect', { authorizationParams: { prompt: 'none' } });
      assert.deepEqual(await handleRedirectCallback(), { error: 'login_required' });
    });
  });
}
